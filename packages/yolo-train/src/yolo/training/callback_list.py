"""Merging the callbacks that exist in every run with a ``trainer.callbacks`` list of a configuration."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar

from yolo.training import callbacks as ours

NAMED_CALLBACKS: dict[str, type[Callback]] = {
    "ema": ours.EMACallback,
    "early_stopping": ours.YOLOEarlyStopping,
    "progress": ours.YOLOProgressBar,
    "summary": ours.TrainingSummaryCallback,
    "dashboard": ours.EvalDashboardCallback,
    "record": ours.RunRecord,
    "guard": ours.NonFiniteGuard,
}
_NAMES = {kind.__name__: name for name, kind in NAMED_CALLBACKS.items()} | {"EarlyStopping": "early_stopping"}
_CHECKPOINT = "yolo.training.callbacks.YOLOCheckpoint"


def settle_listed(config: Namespace, args: Sequence[str]) -> None:
    """Rewrite a parsed ``trainer.callbacks`` list so that nothing stands in two places.

    A callback that exists by name gives its settings to the section of that name, where options of the command line
    win, and leaves the list. Lightning's ModelCheckpoint becomes ours, which takes the same arguments.

    Args:
        config: changed in place.
        args: the command line.
    """
    given = {arg.partition("=")[0].removeprefix("--") for arg in args if arg.startswith("--")}
    rest, taken = [], set()
    for entry in config.trainer.callbacks or []:
        kind = entry.class_path.rsplit(".", 1)[-1]
        name = _NAMES.get(kind)
        if kind == "ModelCheckpoint":
            entry.class_path = _CHECKPOINT
        if name is None or name in taken:
            rest.append(entry)
            continue
        taken.add(name)
        for key, value in dict(entry.get("init_args") or {}).items():
            if key in config[name] and f"{name}.{key}" not in given:
                config[name][key] = value
    config.trainer.callbacks = rest or None


def merge_callbacks(
    listed: Sequence[Callback], named: Sequence[Callback], *, checkpoints: bool = True, progress: bool = True
) -> list[Callback]:
    """Join what is left of a configuration's list with the callbacks of every run.

    Args:
        listed: from ``trainer.callbacks``; a checkpoint or progress bar there replaces our own.
        named: the callbacks set by name.
        checkpoints: false leaves all checkpoints out (``trainer.enable_checkpointing``).
        progress: false leaves all progress bars out (``trainer.enable_progress_bar``).
    """
    saving = [callback for callback in listed if isinstance(callback, ModelCheckpoint)]
    if not saving:
        named = [*named, ours.YOLOCheckpoint(save_last=True)]
    elif not any(callback.save_last for callback in saving):
        named = [*named, ours.YOLOCheckpoint(save_last=True, save_top_k=0)]  # or the run could not be resumed
    if any(isinstance(callback, ProgressBar) for callback in listed):
        named = [callback for callback in named if not isinstance(callback, ProgressBar)]
    unwanted = tuple(kind for kind, wanted in ((ModelCheckpoint, checkpoints), (ProgressBar, progress)) if not wanted)
    return [callback for callback in (*named, *listed) if not isinstance(callback, unwanted)]
