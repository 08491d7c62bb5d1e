"""How long a training is, in optimiser steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning.pytorch import Trainer

from yolo.core.errors import UsageError

_ROUNDING = 1e-6  # of a step


def optimizer_steps(images: int, *, batch_size: int, processes: int, limit: float | None, accumulate: int) -> int:
    """Count the optimiser steps of an epoch.

    Args:
        images: of the training split.
        batch_size: of one process.
        processes: that share the images, each rounded up.
        limit: ``trainer.limit_train_batches``: an int counts batches, a float is a share of them, None is all.
        accumulate: batches that make one step; what is left at the end of the epoch makes one, too.
    """
    batches = epoch_batches(images, batch_size=batch_size, processes=processes, limit=limit)
    return max(-(-batches // accumulate), 1)


def epoch_batches(images: int, *, batch_size: int, processes: int, limit: float | None) -> int:
    """Count the batches of an epoch in one process; the arguments are those of :func:`optimizer_steps`."""
    share = -(-images // processes)
    batches = -(-share // batch_size)
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return batches


@dataclass(frozen=True, kw_only=True)
class TrainingLength:
    """Where a training ends: after a number of epochs, of steps, or what comes first.

    Args:
        steps_per_epoch: optimiser steps (not batches: accumulation counts) in an epoch.
        max_epochs: None or negative: no limit.
        max_steps: None or negative: no limit.

    Raises:
        UsageError: neither limit is given, and a schedule needs an end.
    """

    steps_per_epoch: int
    max_epochs: int | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if not self._limited(self.max_epochs) and not self._limited(self.max_steps):
            raise UsageError(
                "trainer.max_epochs is -1 and trainer.max_steps is not set: a schedule needs an end, give either"
            )

    @classmethod
    def of(cls, trainer: Trainer, steps_per_epoch: int) -> TrainingLength:
        """Return the length of a trainer's training.

        ``trainer.estimated_stepping_batches`` would start the loader, before a resumed run knows its epoch.
        """
        return cls(steps_per_epoch=steps_per_epoch, max_epochs=trainer.max_epochs, max_steps=trainer.max_steps)

    def end(self, step: int = 0, epoch: float = 0.0) -> int:
        """Return the step at which a training ends that has done ``step`` steps in ``epoch`` epochs."""
        ends = []
        if self.max_epochs is not None and self._limited(self.max_epochs):
            ends.append(step + math.ceil((self.max_epochs - epoch) * self.steps_per_epoch - _ROUNDING))
        if self.max_steps is not None and self._limited(self.max_steps):
            ends.append(self.max_steps)
        return max(min(ends), step)

    @staticmethod
    def _limited(value: int | None) -> bool:
        return value is not None and value >= 0
