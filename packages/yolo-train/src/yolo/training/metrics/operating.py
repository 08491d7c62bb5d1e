"""Precision, recall and F1 at one confidence threshold: what a product sees, next to COCO's averages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class Counts:
    """Matches at one threshold, per class.

    Attributes:
        true_positives: int64 ``[classes]``.
        false_positives: int64 ``[classes]``; detections on a crowd region count neither way.
        truths: int64 ``[classes]`` objects that are not crowds.
    """

    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    truths: NDArray[np.int64]

    def precision(self) -> Array:
        """Return the precision of each class, 0 without detections."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    def recall(self) -> Array:
        """Return the recall of each class, 0 without truth."""
        return ratio(self.true_positives, self.truths)

    def f1(self) -> Array:
        """Return the harmonic mean of precision and recall of each class."""
        return ratio(2 * self.true_positives, self.true_positives + self.false_positives + self.truths)

    def means(self) -> tuple[float, float, float]:
        """Return precision, recall and F1 averaged over the classes that have truth, each class weighing the same."""
        seen = self.truths > 0
        if not seen.any():
            return 0.0, 0.0, 0.0
        return float(self.precision()[seen].mean()), float(self.recall()[seen].mean()), float(self.f1()[seen].mean())


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Array:
    """Divide counts; 0 where there is nothing to divide by."""
    quotient: Array = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return quotient
