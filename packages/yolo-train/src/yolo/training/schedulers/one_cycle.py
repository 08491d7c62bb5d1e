"""The 1cycle policy (arXiv:1708.07120, section 3; with cosines instead of straight lines, as in fastai and PyTorch)."""

from __future__ import annotations

import math

from yolo.training.config import ScheduleConfig


class OneCycle:
    """Climb from ``1 / div_factor`` to 1, fall to ``1 / div_factor / final_div_factor``, both along half a cosine.

    The last rate is set by ``one_cycle_final_div_factor``; ``lr_min_factor`` plays no part. Nor does the momentum go
    through a cycle: it stays what it is after the warm-up.

    Args:
        config: holds the settings ``one_cycle_*``.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.top = config.one_cycle_pct_start
        self.first = 1 / config.one_cycle_div_factor
        self.last = self.first / config.one_cycle_final_div_factor

    def __call__(self, progress: float) -> float:
        """Return the factor of the base rate after the fraction ``progress`` (0..1) of the training."""
        if progress < self.top:
            return _between(self.first, 1.0, progress / self.top)
        return _between(1.0, self.last, (progress - self.top) / (1 - self.top) if self.top < 1 else 0.0)


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
