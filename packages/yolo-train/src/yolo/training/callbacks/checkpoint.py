"""Checkpoints with readable names in the run folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from yolo.training.runs import inside, run_name


class YOLOCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, with differences that a detector's training needs.

    * a relative ``dirpath`` lies in the run folder;
    * ``{name}`` in ``filename`` is the run's name, and a metric such as ``{val/mAP:.4f}`` puts its value into the
      name instead of opening a sub-folder;
    * several of them with one monitor can stand side by side (each has its own state key);
    * ``best`` stays ``best.ckpt``: a file is replaced, not numbered;
    * ``last.ckpt`` is written at the end of every epoch, also of one that was not validated or not among the best, and
      whenever ``every_n_train_steps`` or ``train_time_interval`` says so; it is written when all checkpoint callbacks
      have ranked the epoch, so that it knows all their best files;
    * nothing is written between two batches of one optimiser step, whose gradients no file holds;
    * a resumed run finds the best files in the run folder, moved or not, or where the checkpoint lies.

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
        self._last_is_due = False
        self._resumed_from: Path | None = None

    @property
    def folder(self) -> Path:
        """Where checkpoints go, a relative folder in that of the run."""
        return self._folder

    @folder.setter
    def folder(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    @property
    def state_key(self) -> str:
        """A key that differs between two checkpoints of one monitor."""
        return f"{super().state_key}[{self._folder}/{self.filename}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder of the run."""
        self.dirpath = str(inside(trainer, self._folder))
        self._run_name = run_name(trainer)
        super().setup(trainer, pl_module, stage)

        if trainer.is_global_zero and stage == "fit":
            for left in Path(self.dirpath).glob(".*.part"):  # of a process that was killed while it wrote
                left.unlink(missing_ok=True)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember where the checkpoint lies."""
        self._resumed_from = Path(trainer.ckpt_path).absolute().parent if trainer.ckpt_path else None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and files, also when the run's folder was moved."""
        old, new = str(state_dict.get("dirpath")), Path(str(self.dirpath))
        best = Path(str(state_dict.get("best_model_path") or "")).name
        beside = self._resumed_from
        if best and beside is not None and not (new / best).is_file() and (beside / best).is_file():
            # The run goes on in another folder. Its best files stay in the old one, and are not for us to delete.
            state_dict = {**_moved(state_dict, old, str(beside)), "dirpath": str(new), "last_model_path": ""}
        super().load_state_dict(_moved(state_dict, old, str(new)))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after some steps or some time, if asked to, but only when an optimiser step is complete."""
        if trainer.fit_loop._should_accumulate():
            return
        checked = self._last_time_checked
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        steps = self._every_n_train_steps
        self._last_is_due = self._last_time_checked != checked or (steps > 0 and trainer.global_step % steps == 0)
        _write_due(trainer, self)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of the epoch, when the other callbacks know all about it."""
        super().on_train_epoch_end(trainer, pl_module)
        self._last_is_due = True
        _write_due(trainer, self)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation; one within an epoch is worth a ``last.ckpt``, too."""
        super().on_validation_end(trainer, pl_module)
        loop = trainer.fit_loop.epoch_loop
        within = not (trainer.sanity_checking or loop._num_ready_batches_reached() or loop._should_accumulate())
        if within and trainer.state.fn == TrainerFn.FITTING:
            self._last_is_due = True
            _write_due(trainer, self)

    def save_last_now(self, trainer: Trainer) -> Path:
        """Write ``last.ckpt`` as the training stands, and return its path; a choice among the best is not touched."""
        path = self.format_checkpoint_name(self._monitor_candidates(trainer), self.CHECKPOINT_NAME_LAST)
        previous, self.last_model_path = self.last_model_path, path
        trainer.save_checkpoint(path, weights_only=False)
        if previous and self._should_remove_checkpoint(trainer, previous, path):
            self._remove_checkpoint(trainer, previous)
        return Path(path)

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Save among the best; without a validation there is nothing to rank by."""
        if self.monitor is None or self.monitor in monitor_candidates or trainer.limit_val_batches != 0:
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Leave it to :meth:`write_last_if_due`, which is called when all have ranked; Lightning calls this before."""

    def write_last_if_due(self, trainer: Trainer) -> None:
        """Write ``last.ckpt``, or link it to a file of this very step, if it is time to."""
        due, self._last_is_due = self._last_is_due, False
        if not due or not self.save_last or getattr(trainer, "fast_dev_run", False):
            return
        fresh = self._last_checkpoint_saved and self._last_global_step_saved == trainer.global_step
        if self.save_last == "link" and fresh:
            super()._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        else:
            self.save_last_now(trainer)

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


def _write_due(trainer: Trainer, callback: YOLOCheckpoint) -> None:
    """Let the last of the checkpoint callbacks write what is due of all of them."""
    savers = [other for other in trainer.checkpoint_callbacks if isinstance(other, YOLOCheckpoint)]
    if callback is savers[-1]:
        for saver in savers:
            saver.write_last_if_due(trainer)


def _moved(value: Any, old: str, new: str) -> Any:
    """Replace the folder ``old`` by ``new`` in every path of a checkpoint callback's state."""
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, str) and (value == old or value.startswith(f"{old}{os.sep}")):
        return new + value[len(old) :]
    return value
