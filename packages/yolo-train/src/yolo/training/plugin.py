"""What yolo-train adds to ``yolo``: strings only, so that listing it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from yolo.core.plugins import CommandSpec, ConfigSpec, LRSchedulerSpec, hookimpl


@hookimpl
def yolo_commands() -> Iterator[CommandSpec]:
    """Add ``fit``, ``validate``, ``test``, ``lr-plot``, ``tune``, ``replay`` and ``report``."""
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
    yield CommandSpec(
        "lr-plot",
        target="yolo.training.commands.lr_plot:lr_plot",
        summary="Draw rate and momentum that a configuration gives.",
        passthrough=True,
    )
    yield CommandSpec(
        "tune",
        target="yolo.training.commands.tune:tune",
        summary="Measure, and suggest batch size and loader settings.",
    )
    yield CommandSpec(
        "replay",
        target="yolo.training.commands.replay:replay",
        summary="Run a batch again that stopped a training, and look at every module.",
    )
    yield CommandSpec(
        "report",
        target="yolo.training.commands.report:report",
        summary="Make an HTML page of an evaluation, or compare two.",
    )


@hookimpl
def yolo_lr_schedulers() -> Iterator[LRSchedulerSpec]:
    """Add the built-in schedules."""
    found = {
        "cosine": ("cosine:Cosine", "Half a cosine down to lr_min_factor."),
        "linear": ("linear:Linear", "A straight line down to lr_min_factor."),
        "step": ("step:Step", "A drop by step_gamma every step_size epochs."),
        "one_cycle": ("one_cycle:OneCycle", "Up, then down to almost nothing (one_cycle_*)."),
    }
    for name, (target, summary) in found.items():
        yield LRSchedulerSpec(name, target=f"yolo.training.schedulers.{target}", summary=summary)


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
