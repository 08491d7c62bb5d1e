"""Timing the steps of a training from within."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from yolo.data.types import Batch


@dataclass(frozen=True)
class Rate:
    """How many of something there are in a second: the median of several measurements, and how far these lie apart.

    Attributes:
        median: a second.
        spread: half the distance between the quartiles (of two or three measurements: between the extremes), as a
            share of the median; None for a single measurement.
        count: measurements.
    """

    median: float
    spread: float | None
    count: int

    @classmethod
    def of(cls, rates: list[float]) -> Rate:
        """Sum up measurements, at least one."""
        median = statistics.median(rates)
        if len(rates) < 2:
            return cls(median, None, len(rates))
        low, high = min(rates), max(rates)
        if len(rates) >= 4:
            low, _, high = statistics.quantiles(rates, n=4)
        return cls(median, (high - low) / 2 / median, len(rates))

    def __str__(self) -> str:
        return f"{self.median:.1f}" if self.median < 100 else f"{self.median:,.0f}"

    @property
    def margin(self) -> str:
        """The spread for a table."""
        return "-" if self.spread is None else f"±{self.spread:.0%}".replace("%", " %")


class StepClock(Callback):
    """Measure steps until there are enough, then end the training.

    It has to be the last callback, so that what the others do counts as well. On an accelerator several batches are
    timed together, for to wait after each of them would itself take time.

    Args:
        seconds: to measure, after the first steps, which are not counted.
    """

    LEAST = 3
    _PATIENCE = 4.0  # times ``seconds``: then a single measurement has to do

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.rates: list[float] = []
        self.waiting = 0.0
        self.measured = 0.0
        self._began = self._ended = time.perf_counter()
        self._opened: float | None = None
        self._images = self._batches = 0
        self._waited = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the time that a batch was waited for."""
        self._waited += time.perf_counter() - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Close a measurement, and stop when there are enough."""
        device = pl_module.device
        self._images += len(batch.images)
        self._batches += 1
        if self._batches >= (1 if device.type == "cpu" else 5):
            _finish(device)
            self._close(trainer, time.perf_counter())
        self._ended = time.perf_counter()

    def _close(self, trainer: Trainer, now: float) -> None:
        if self._opened is not None:
            took = now - self._opened
            self.rates.append(self._images / took)
            self.measured += took
            self.waiting += self._waited
            enough = self.measured >= self.seconds and len(self.rates) >= self.LEAST
            if enough or self.measured >= self.seconds * self._PATIENCE:
                trainer.should_stop = True
        self._opened, self._images, self._batches, self._waited = now, 0, 0, 0.0


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
