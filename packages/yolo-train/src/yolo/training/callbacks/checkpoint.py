"""Checkpoints with readable names in the run folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from yolo.training.runs import inside, run_name


class YOLOCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, with five differences that a detector's training needs.

    * a relative ``dirpath`` lies in the run folder;
    * ``{name}`` in ``filename`` is the run's name, and a metric such as ``{val/mAP:.4f}`` puts its value into the
      name instead of opening a sub-folder;
    * several of them with one monitor can stand side by side (each has its own state key);
    * ``best`` stays ``best.ckpt``: a file is replaced, not numbered;
    * ``last.ckpt`` is written at the end of every epoch, also of one that was not validated or not among the best.

    Args:
        dirpath: folder of the checkpoints.
        filename: template of the names.
        monitor: metric that decides.
        mode: ``max`` or ``min``.
        save_top_k: how many of the best are kept.
        save_last: also write ``last.ckpt`` after every epoch.
        **kwargs: further options of Lightning's ModelCheckpoint.
    """

    def __init__(
        self,
        dirpath: str | Path | None = "checkpoints",
        filename: str | None = "best",
        monitor: str | None = "val/mAP",
        mode: str = "max",
        save_top_k: int = 1,
        save_last: bool | None = None,
        **kwargs: Any,
    ) -> None:
        # Not a matter of choice: a configuration read as Lightning's own class carries the defaults of that class.
        kwargs |= {"enable_version_counter": False, "auto_insert_metric_name": False}
        self._folder = Path(dirpath or "checkpoints")
        super().__init__(
            dirpath=None,
            filename=filename,
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            save_last=save_last,
            **kwargs,
        )
        self._run_name = "yolo"
        self._epoch_is_over = False

    @property
    def state_key(self) -> str:
        """A key that differs between two checkpoints of one monitor."""
        return f"{super().state_key}[{self._folder}/{self.filename}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder of the run."""
        self.dirpath = str(inside(trainer, self._folder))
        self._run_name = run_name(trainer)
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and files, also when the run's folder was moved."""
        super().load_state_dict(_moved(state_dict, str(state_dict.get("dirpath")), str(self.dirpath)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of the epoch, when the other callbacks know all about it."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.save_last and not getattr(trainer, "fast_dev_run", False):
            self._epoch_is_over = True
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
            self._epoch_is_over = False

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Save among the best; without a validation there is nothing to rank by."""
        if self.monitor is None or self.monitor in monitor_candidates or trainer.limit_val_batches != 0:
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Wait for the end of the epoch instead of writing the same file twice."""
        if self._epoch_is_over:
            super()._save_last_checkpoint(trainer, monitor_candidates)

    def _format_checkpoint_name(
        self,
        filename: str | None,
        metrics: dict[str, Tensor],
        prefix: str | None = None,
        auto_insert_metric_name: bool = True,
    ) -> str:
        filename = (filename or "epoch={epoch:02d}-step={step}").replace("{name}", self._run_name)
        # `{epoch:02d}` reads as `epoch=05`, as in Lightning; a metric already has its label in front of it.
        filename = re.sub(r"(?<!=)\{(epoch|step)\b", r"\1={\1", filename)
        return str(super()._format_checkpoint_name(filename, metrics, prefix, auto_insert_metric_name=False))


def _moved(value: Any, old: str, new: str) -> Any:
    """Replace the folder ``old`` by ``new`` in every path of a checkpoint callback's state."""
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, str) and (value == old or value.startswith(f"{old}{os.sep}")):
        return new + value[len(old) :]
    return value
