"""Merging the callbacks that exist in every run with a ``trainer.callbacks`` list of a configuration."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar

from yolo.training.callbacks import YOLOCheckpoint

# Class paths of a configuration that are read as our own class, which takes the same arguments.
REPLACED = {
    "lightning.pytorch.callbacks.ModelCheckpoint": "yolo.training.callbacks.YOLOCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint": "yolo.training.callbacks.YOLOCheckpoint",
    "pytorch_lightning.callbacks.ModelCheckpoint": "yolo.training.callbacks.YOLOCheckpoint",
    "ModelCheckpoint": "yolo.training.callbacks.YOLOCheckpoint",
}

_ROLES: tuple[type[Callback], ...] = (ModelCheckpoint, EarlyStopping, ProgressBar)


def default_checkpoints() -> list[Callback]:
    """Return what is saved when the configuration says nothing: ``best.ckpt`` and ``last.ckpt``."""
    return [YOLOCheckpoint(save_last=True)]


def merge_callbacks(listed: Sequence[Callback], named: Sequence[Callback]) -> list[Callback]:
    """Join a configuration's list with the callbacks of every run, so that nothing is there twice.

    Args:
        listed: from ``trainer.callbacks``; they win.
        named: the callbacks set by name; one is left out when the list has another of its class or role (checkpoint,
            early stopping, progress bar).
    """
    kept = [callback for callback in named if not any(_same_role(callback, other) for other in listed)]
    return [*kept, *listed]


def _same_role(callback: Callback, other: Callback) -> bool:
    if type(callback) is type(other):
        return True
    return any(isinstance(callback, role) and isinstance(other, role) for role in _ROLES)
