"""What this distribution adds to `yolo`. It names its target as a string, so that listing it imports no Ray."""

from __future__ import annotations

from collections.abc import Iterator

from yolo.core.plugins import CommandSpec, hookimpl


@hookimpl
def yolo_commands() -> Iterator[CommandSpec]:
    """Offer `yolo ray fit`."""
    yield CommandSpec(name="ray", target="yolo_ray.command:ray_group", summary="Train on a Ray cluster.")
