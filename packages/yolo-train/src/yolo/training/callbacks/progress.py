"""The progress of an epoch: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

LINES_PER_EPOCH = 4
SECONDS_BETWEEN_UPDATES = 0.2
TERMS = ("box", "cls", "dfl")


class YOLOProgressBar(ProgressBar):
    """Shows epoch (counted from 1), box, cls and dfl loss, learning rate and the time left in the training.

    Args:
        enabled: false shows nothing.
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self.console = Console()
        self.enabled = enabled
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = 0.0
        self._batches = 0
        self._shown = 0.0

    def disable(self) -> None:
        """Lightning calls this on all processes but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Show progress again."""
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the training."""
        self._started, self._batches = time.monotonic(), 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of an epoch."""
        if self.enabled and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[terms]}"),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task(_epoch(trainer), total=float(trainer.num_training_batches), terms="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, or print one of a few lines."""
        if not self.enabled:
            return
        self._batches += 1
        done, total = batch_idx + 1, int(trainer.num_training_batches)
        if self._bar is not None and self._task is not None:
            if time.monotonic() - self._shown < SECONDS_BETWEEN_UPDATES and done < total:
                return  # reading the losses would make a GPU wait
            self._shown = time.monotonic()
            self._bar.update(self._task, completed=done, terms=self._terms(trainer, total - done))
        elif done == total or done % max(total // LINES_PER_EPOCH, 1) == 0:
            print(f"{_epoch(trainer)}  {done}/{total}  {self._terms(trainer, total - done)}", flush=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar: validation prints tables."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._close()

    def _terms(self, trainer: Trainer, batches_left: int) -> str:
        metrics = trainer.callback_metrics
        shown = [f"{name} {float(metrics[key]):.3f}" for name in TERMS if (key := f"train/{name}_step") in metrics]
        rate = trainer.optimizers[0].param_groups[-1]["lr"] if trainer.optimizers else 0.0
        return "  ".join([*shown, f"lr {rate:.2e}", self._time_left(trainer, batches_left)])

    def _time_left(self, trainer: Trainer, batches: int) -> str:
        """Estimate the rest of the training, validation included, from what this process has done so far."""
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            return ""
        batches += (trainer.max_epochs - trainer.current_epoch - 1) * int(trainer.num_training_batches)
        seconds = round((time.monotonic() - self._started) / self._batches * batches)
        return f"{timedelta(seconds=seconds)} left"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


def _epoch(trainer: Trainer) -> str:
    limit = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    return f"Epoch {trainer.current_epoch + 1}{limit}"
