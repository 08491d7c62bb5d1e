"""The progress of an epoch: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from yolo.training.wording import duration

SECONDS_BETWEEN_UPDATES = 0.2
SECONDS_BETWEEN_LINES = 10.0  # at least, where there is no terminal
_LINES_PER_EPOCH = 4
_LONGEST_SILENCE = 60.0
_TERMS = ("box", "cls", "dfl")
_WIDEST_BAR = 30
_NARROWEST_BAR = 5


class _Line:
    """One line of a terminal; what is least important goes first where it is narrow."""

    def __init__(self) -> None:
        self.title = ""
        self.done = 0
        self.total = 0
        self.pieces: Sequence[tuple[int, str]] = ()  # importance (low is high) and text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        counter = f"{self.done}/{self.total}"
        pieces = [piece for piece in self.pieces if piece[1]]
        room = options.max_width - 1

        def used() -> int:
            return sum(len(text) + 2 for _, text in pieces) + len(self.title) + 2 + len(counter)

        while pieces and used() > room:
            pieces.remove(max(pieces))
        line = Text(no_wrap=True, overflow="crop", end="")
        line.append(f"{self.title}  ", style="bold")
        width = min(room - used() - 2, _WIDEST_BAR)
        if width >= _NARROWEST_BAR:
            full = round(width * self.done / self.total) if self.total else 0
            signs = "━─" if console.encoding.lower().startswith("utf") else "=-"
            line.append(signs[0] * full, style="green")
            line.append(f"{signs[1] * (width - full)}  ", style="dim")
        line.append("  ".join([counter, *(text for _, text in pieces)]))
        yield line


class YOLOProgressBar(ProgressBar):
    """Shows epoch (counted from 1), box, cls and dfl loss, learning rate and the time left in the training.

    On a terminal it is a line that is drawn anew; elsewhere, a line four times an epoch, though none within ten
    seconds, and one a minute at least.

    Args:
        enabled: false shows nothing.
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self.console = Console()
        self.enabled = enabled
        self._line = _Line()
        self._live: Live | None = None
        self._started = self._shown = 0.0
        self._batches = 0
        self._quarter = 0

    def disable(self) -> None:
        """Lightning calls this on all processes but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Show progress again."""
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the training."""
        self._started, self._batches, self._shown = time.monotonic(), 0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of an epoch."""
        self._quarter = 0
        self._open(_epoch(trainer), trainer.num_training_batches)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, or print one of a few lines."""
        if not self.enabled:
            return
        self._batches += 1
        self._move(batch_idx + 1, lambda left: self._pieces(trainer, left))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a bar for the validation."""
        self._close()
        if trainer.sanity_checking:
            return
        self._quarter = 0
        self._open(f"{_epoch(trainer)} validation", sum(trainer.num_val_batches))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Move the bar of the validation."""
        if self.enabled and not trainer.sanity_checking:
            self._move(batch_idx + 1, lambda left: ())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar: tables are printed next."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the terminal back."""
        self._close()

    def _open(self, title: str, total: float) -> None:
        self._close()
        self._line = _Line()
        self._line.title, self._line.total = title, int(total)
        if self.enabled and self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(self._line, console=self.console, transient=True, auto_refresh=False)
            self._live.start()

    def _move(self, done: int, pieces: Any) -> None:
        total, since = self._line.total, time.monotonic() - self._shown
        if self._live is not None:
            due = since >= SECONDS_BETWEEN_UPDATES or done >= total
        else:
            quarter, self._quarter = self._quarter, done * _LINES_PER_EPOCH // max(total, 1)
            due = (quarter != self._quarter and since >= SECONDS_BETWEEN_LINES) or since >= _LONGEST_SILENCE
        if not due:
            return  # reading the losses would make a GPU wait
        self._shown = time.monotonic()
        self._line.done, self._line.pieces = done, pieces(total - done)
        if self._live is not None:
            self._live.refresh()
        else:
            texts = (text for _, text in self._line.pieces if text)
            print("  ".join([f"{self._line.title}  {done}/{total}", *texts]), flush=True)

    def _pieces(self, trainer: Trainer, batches_left: int) -> Sequence[tuple[int, str]]:
        metrics = trainer.callback_metrics
        terms = [
            (1, f"{name} {float(metrics[key]):.3f}") for name in _TERMS if (key := f"train/{name}_step") in metrics
        ]
        rate = trainer.optimizers[0].param_groups[-1]["lr"] if trainer.optimizers else 0.0
        return [*terms, (3, f"lr {rate:.2e}"), (2, self._time_left(trainer, batches_left))]

    def _time_left(self, trainer: Trainer, batches: int) -> str:
        """Estimate the rest of the training, validation included, from what this process has done so far."""
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            return ""
        batches += (trainer.max_epochs - trainer.current_epoch - 1) * int(trainer.num_training_batches)
        return f"{duration((time.monotonic() - self._started) / self._batches * batches)} left"

    def _close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def _epoch(trainer: Trainer) -> str:
    limit = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    return f"Epoch {trainer.current_epoch + 1}{limit}"
