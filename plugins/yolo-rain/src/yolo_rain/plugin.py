"""What this distribution adds to `yolo`. It names its targets as strings, so that listing it imports no OpenCV."""

from __future__ import annotations

from collections.abc import Iterator

from yolo.core.plugins import AugmentationSpec, CommandSpec, hookimpl


@hookimpl
def yolo_augmentations() -> Iterator[AugmentationSpec]:
    """Offer `rain` to the configuration key `data.augmentations`."""
    yield AugmentationSpec(
        name="rain",
        target="yolo_rain.augment:Rain",
        summary="Synthetic rain: streaks at three distances, and a scene that loses contrast.",
    )


@hookimpl
def yolo_commands() -> Iterator[CommandSpec]:
    """Offer `yolo rain-preview`."""
    yield CommandSpec(
        name="rain-preview",
        target="yolo_rain.command:rain_preview",
        summary="Show what the augmentation `rain` does to a picture.",
    )
