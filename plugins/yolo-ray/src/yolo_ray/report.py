"""What is known outside of the workers after every epoch: metrics, and the last and the best checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import ray.train
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from yolo.core.files import write_atomically
from yolo.training.module import YOLOModule
from yolo.training.runs import run_folder

LAST, BEST = "last.ckpt", "best.ckpt"


class ReportToRay(Checkpoint):
    """Reports to Ray at the end of every epoch, in all processes at once.

    It is a ``Checkpoint`` because Lightning calls those last, in their order: those of the run have written by then.

    Args:
        pointer: file that says where the run keeps its last checkpoint; None writes none.
    """

    def __init__(self, pointer: Path | None) -> None:
        self.pointer = pointer

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand Ray metrics, and copies of the checkpoints."""
        assert isinstance(pl_module, YOLOModule)
        metrics: dict[str, Any] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics = {name: value for name, value in metrics.items() if name.startswith("train/")}
        metrics |= pl_module.metrics_of_epoch()
        metrics |= {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        metrics["run_folder"] = str(run_folder(trainer))
        with tempfile.TemporaryDirectory(prefix="yolo-ray-") as folder:
            saved = self._pack(trainer, Path(folder)) if trainer.is_global_zero else None
            ray.train.report(metrics, checkpoint=saved)

    def _pack(self, trainer: Trainer, folder: Path) -> ray.train.Checkpoint | None:
        """Collect the checkpoints of the run in a folder; None when there are none."""
        callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
        last = next((path for callback in callbacks if (path := callback.last_model_path)), "")
        best = next((path for callback in callbacks if (path := callback.best_model_path)), "")
        if not last or not Path(last).is_file():
            return None
        if self.pointer is not None:
            write_atomically(self.pointer, json.dumps({"last": str(Path(last).absolute())}).encode())
        _link(Path(last), folder / LAST)
        if best and Path(best).is_file():
            _link(Path(best), folder / BEST)
        return ray.train.Checkpoint.from_directory(folder)


def original(pointer: Path | None) -> Path | None:
    """Return the last checkpoint in the run folder, if it can be seen from here.

    It may be newer than what was reported: Ray collects reports every other second.
    """
    if pointer is None or not pointer.is_file():
        return None
    path = Path(json.loads(pointer.read_text())["last"])
    return path if path.is_file() else None


def reported() -> Path | None:
    """Return a copy of the last checkpoint that reached Ray; None when there is none."""
    saved = ray.train.get_checkpoint()
    return None if saved is None else Path(saved.to_directory(tempfile.mkdtemp(prefix="yolo-ray-"))) / LAST


def _link(source: Path, target: Path) -> None:
    """Give a file a second name where the file system can, else copy it. It is replaced, never changed, by the run."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
