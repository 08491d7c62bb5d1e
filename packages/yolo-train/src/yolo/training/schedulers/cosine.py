"""Cosine annealing (SGDR, arXiv:1608.03983, equation 5, one cycle)."""

from __future__ import annotations

import math

from yolo.training.config import ScheduleConfig


class Cosine:
    """Fall from 1 to ``lr_min_factor`` along half a cosine.

    Args:
        config: holds ``lr_min_factor``.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.low = config.lr_min_factor

    def __call__(self, progress: float) -> float:
        """Return the factor of the base rate after the fraction ``progress`` (0..1) of the training."""
        return self.low + (1 - self.low) * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2
