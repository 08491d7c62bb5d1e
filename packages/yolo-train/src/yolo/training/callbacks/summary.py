"""What a person reads: what is about to be trained, how long it takes, and what every epoch brought."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from yolo.training.module import YOLOModule
from yolo.training.overview import WIDTH, overview
from yolo.training.wording import duration

_WARM_UP = 3  # batches before the clock starts: the first ones take longer
_MEASURED = 10
_TERMS = ("loss", "box", "cls", "dfl")


class TrainingSummaryCallback(Callback):
    """Prints what is trained, how long an epoch takes, and after each epoch its losses, present and best mAP.

    Args:
        enabled: false prints nothing.
        monitor: the metric that says which epoch was best (higher is better).
    """

    def __init__(self, enabled: bool = True, monitor: str = "val/mAP") -> None:
        self.enabled = enabled
        self.monitor = monitor
        self.best = float("-inf")
        self.best_epoch = 0
        self._started = self._clock = 0.0
        self._batches = 0
        self._lines: list[str] = []
        self._files: dict[Path, tuple[int, int]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what is about to be trained, on what, where."""
        self._batches, self._lines = 0, []
        if self.enabled and isinstance(pl_module, YOLOModule):
            text = overview(trainer, pl_module, width=_columns())
            if trainer.is_global_zero:
                _show(text)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what is left to say of the last epoch, now that its checkpoints are written, and start the clock."""
        self._show_epoch(trainer)
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Say how long an epoch will take, once, as soon as that can be known."""
        if not self.enabled or self._batches > _WARM_UP + _MEASURED:
            return
        self._batches += 1
        if self._batches == _WARM_UP:
            self._clock = time.monotonic()
        elif self._batches == _WARM_UP + _MEASURED and trainer.is_global_zero:
            self._batches += 1
            _show(_times(trainer, (time.monotonic() - self._clock) / _MEASURED))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the lines of the epoch together (validation has run by now)."""
        assert isinstance(pl_module, YOLOModule)
        validated = pl_module.metrics_of_epoch()
        epoch, score, before = trainer.current_epoch + 1, validated.get(self.monitor), self.best
        if score is not None and score > self.best:
            self.best, self.best_epoch = score, epoch
        if not self.enabled or not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        losses = [f"{name} {metrics[key]:.3f}" for name in _TERMS if (key := f"train/{name}_epoch") in metrics]
        length = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        spent = time.monotonic() - self._started
        self._lines = ["  ".join([f"Epoch {epoch}{length} done in {duration(spent)}", *losses])]
        if score is not None:
            self._lines.append(
                f"  {'  '.join([*self._comparison(score, before, epoch), *_others(validated, trainer)])}"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the lines of the last epoch."""
        self._show_epoch(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Do not keep the lines of an epoch that was over."""
        self._show_epoch(trainer)

    def _comparison(self, score: float, before: float, epoch: int) -> list[str]:
        """Present and best score, and which way it went."""
        text = f"{self.monitor.removeprefix('val/')} {score:.4f}"
        if self.best_epoch != epoch:
            change = click.style(f"({score - self.best:+.4f})", fg="red" if score < self.best else None)
            return [f"{text} {change}", f"best {self.best:.4f} in epoch {self.best_epoch}"]
        mark = click.style("[NEW BEST]", fg="green", bold=True)
        change = f" {click.style(f'({score - before:+.4f})', fg='green')}" if before > float("-inf") else ""
        return [f"{text}{change} {mark}"]

    def _show_epoch(self, trainer: Trainer) -> None:
        """Print the waiting lines with the checkpoints that were written since the last time."""
        if not (self.enabled and trainer.is_global_zero):
            return
        files = _checkpoints(trainer.checkpoint_callbacks)
        written = sorted(path.name for path, stamp in files.items() if self._files.get(path) != stamp)
        self._files = files
        if self._lines:
            if written:
                self._lines.append(f"  written: {', '.join(written)}")
            _show("\n".join(self._lines))
            self._lines = []

    def state_dict(self) -> dict[str, float | int]:
        """Return the best score and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, float | int]) -> None:
        """Restore the best score of a resumed run."""
        self.best, self.best_epoch = float(state_dict["best"]), int(state_dict["best_epoch"])


def _others(validated: dict[str, float], trainer: Trainer) -> list[str]:
    texts = [f"mAP50 {validated['val/mAP50']:.4f}"] if "val/mAP50" in validated else []
    stopping = trainer.early_stopping_callback
    if isinstance(stopping, EarlyStopping) and getattr(stopping, "enabled", True) and stopping.wait_count:
        texts.append(f"stops after {stopping.patience - stopping.wait_count} more without a gain")
    return texts


def _times(trainer: Trainer, batch: float) -> str:
    """How long an epoch and the rest of the training take at so many seconds a batch."""
    total, done = int(trainer.num_training_batches), trainer.fit_loop.batch_idx + 1
    text = f"About {duration(batch * total)} an epoch"
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        left = (trainer.max_epochs - trainer.current_epoch) * total - done
        text += f", {duration(batch * left)} in all"
    return f"{text} (measured over {_MEASURED} batches, without validation)"


def _checkpoints(callbacks: Iterable[Callback]) -> dict[Path, tuple[int, int]]:
    """Files of checkpoints with what changes when they are written."""
    folders = {Path(c.dirpath) for c in callbacks if isinstance(c, ModelCheckpoint) and c.dirpath}
    found = {}
    for folder in folders:
        for path in folder.glob("*.ckpt"):
            try:
                stat = path.stat()
            except OSError:  # another checkpoint has just taken its place
                continue
            found[path] = stat.st_mtime_ns, stat.st_ino
    return found


def _show(text: str) -> None:
    """Print at once, in colour on a terminal unless :envvar:`NO_COLOR` is set, and above a bar that is drawn there."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    print(text if colour else click.unstyle(text), flush=True)  # click.echo would write past the bar


def _columns() -> int:
    """How wide the lines in front of a training may be."""
    return min(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH
