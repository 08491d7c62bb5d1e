"""What yolo-train adds to ``yolo``: strings only, so that listing it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from yolo.core.plugins import CommandSpec, ConfigSpec, LRSchedulerSpec, hookimpl


@hookimpl
def yolo_commands() -> Iterator[CommandSpec]:
    """Add ``fit``, ``validate`` and ``test``."""
    yield CommandSpec("fit", target="yolo.training.commands.fit:fit", summary="Train a detector.", passthrough=True)
    yield CommandSpec(
        "validate",
        target="yolo.training.commands.validate:validate",
        summary="Measure a checkpoint on the validation split (COCO metrics).",
        passthrough=True,
    )
    yield CommandSpec(
        "test",
        target="yolo.training.commands.validate:test",
        summary="Measure a checkpoint on the test split.",
        passthrough=True,
    )


@hookimpl
def yolo_lr_schedulers() -> Iterator[LRSchedulerSpec]:
    """Add the built-in schedules."""
    yield LRSchedulerSpec(
        "cosine", target="yolo.training.schedulers.cosine:Cosine", summary="Half a cosine down to lr_min_factor."
    )


@hookimpl
def yolo_configs() -> Iterator[ConfigSpec]:
    """Add the packaged configurations."""
    summaries = {
        "default": "A data set in COCO layout, on a GPU.",
        "debug": "A few steps of everything.",
        "quickstart": "A complete training in a few minutes, without any data of your own.",
    }
    for name, summary in summaries.items():
        yield ConfigSpec(name, target=f"yolo.training.configs:{name}", summary=summary)
