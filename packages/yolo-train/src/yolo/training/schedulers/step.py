"""Drops by a constant factor at regular distances."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from yolo.training.config import ScheduleConfig

_ROUNDING = 1e-9  # of a fraction of an epoch, after a resume with another number of steps an epoch


class Step:
    """Multiply the rate by ``step_gamma`` every ``step_size`` epochs, but never go below ``lr_min_factor``.

    It goes by epochs, not by the share of the training that is done, so another length changes nothing before its end.

    Args:
        config: holds ``step_size``, ``step_gamma`` and ``lr_min_factor``.
    """

    counts: ClassVar[Literal["epochs"]] = "epochs"

    def __init__(self, config: ScheduleConfig) -> None:
        self.size = config.step_size
        self.gamma = config.step_gamma
        self.low = min(config.lr_min_factor, 1.0)

    def __call__(self, epochs: float) -> float:
        """Return the factor of the base rate after so many epochs."""
        drops = math.floor(epochs / self.size + _ROUNDING)
        return max(self.gamma**drops, self.low)
