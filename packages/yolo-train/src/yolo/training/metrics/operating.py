"""Precision, recall and F1 at one confidence threshold: what a product sees, next to COCO's averages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    def recall(self) -> Array:
        """Return the recall of each class, 0 without truth."""
        return _ratio(self.true_positives, self.truths)

    def f1(self) -> Array:
        """Return the harmonic mean of precision and recall of each class."""
        return _ratio(2 * self.true_positives, self.true_positives + self.false_positives + self.truths)

    def means(self) -> tuple[float, float, float]:
        """Return precision, recall and F1 averaged over the classes that have truth, each class weighing the same."""
        seen = self.truths > 0
        if not seen.any():
            return 0.0, 0.0, 0.0
        return float(self.precision()[seen].mean()), float(self.recall()[seen].mean()), float(self.f1()[seen].mean())


def count_matches(
    truth: tuple[Array, NDArray[np.int64], NDArray[np.bool_]],
    found: tuple[Array, NDArray[np.floating[Any]], NDArray[np.int64]],
    counts: Counts,
) -> None:
    """Match the detections of one image greedily by descending score at IoU 0.5 and add to ``counts``.

    Args:
        truth: boxes ``[N, 4]`` xyxy, labels ``[N]`` and crowd flags ``[N]`` of the image.
        found: boxes ``[M, 4]`` in the same frame, scores ``[M]`` and labels ``[M]``, already above the threshold.
        counts: changed in place.
    """
    boxes, labels, crowd = truth
    found_boxes, scores, found_labels = found
    np.add.at(counts.truths, labels[~crowd], 1)
    order = np.argsort(-scores, kind="stable")
    overlap = _overlaps(found_boxes, boxes, crowd)
    overlap[found_labels[:, None] != labels[None]] = 0
    free = ~crowd
    for row in order:
        label = found_labels[row]
        open_overlap = np.where(free, overlap[row], 0)
        best = int(open_overlap.argmax()) if len(labels) else -1
        if best >= 0 and open_overlap[best] >= IOU_THRESHOLD:
            free[best] = False
            counts.true_positives[label] += 1
        elif not (overlap[row, crowd] >= IOU_THRESHOLD).any():
            counts.false_positives[label] += 1


def _overlaps(found: Array, truth: Array, crowd: NDArray[np.bool_]) -> Array:
    """IoU, and for crowd regions the share of the detection that lies inside, as COCO has it."""
    low = np.maximum(found[:, None, :2], truth[None, :, :2])
    high = np.minimum(found[:, None, 2:], truth[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(-1)
    area = (found[:, 2:] - found[:, :2]).prod(-1)[:, None]
    truth_area = (truth[:, 2:] - truth[:, :2]).prod(-1)[None]
    whole = np.where(crowd[None], area, area + truth_area - inside)
    overlap: Array = np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0)
    return overlap


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Array:
    ratio: Array = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return ratio
