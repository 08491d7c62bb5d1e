"""A straight line."""

from __future__ import annotations

from yolo.training.config import ScheduleConfig


class Linear:
    """Fall from 1 to ``lr_min_factor`` along a straight line.

    Args:
        config: holds ``lr_min_factor``.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.low = config.lr_min_factor

    def __call__(self, progress: float) -> float:
        """Return the factor of the base rate after the fraction ``progress`` (0..1) of the training."""
        return 1 - (1 - self.low) * progress
