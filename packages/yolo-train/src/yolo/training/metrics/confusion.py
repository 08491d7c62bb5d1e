"""Which classes are taken for which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolo.training.metrics.flat import Detections, Indices, Truth
from yolo.training.metrics.matching import Matches, Pairs, assign
from yolo.training.metrics.operating import IOU_THRESHOLD


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of predicted against true classes at one confidence.

    Attributes:
        matrix: int64 ``[classes + 1, classes + 1]``, rows predicted, columns true, background last: the last column
            holds detections without an object, the last row objects without a detection.
        class_names: in label order, without the background.
        confidence: a detection counts when its score is above it.
    """

    matrix: Indices
    class_names: tuple[str, ...]
    confidence: float

    def top(self, most: int) -> list[tuple[str, str, int]]:
        """Return the most frequent confusions of two classes as predicted, true and count, most frequent first."""
        between = self.matrix[:-1, :-1].copy()
        np.fill_diagonal(between, 0)
        order = np.argsort(-between, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, between.shape)
        names = self.class_names
        return [
            (names[row], names[column], int(between[row, column]))
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if between[row, column] > 0
        ]


def confusion_matrix(
    detections: Detections, truth: Truth, pairs: Pairs, matches: Matches, *, confidence: float
) -> Confusion:
    """Count predicted against true classes at IoU 0.5.

    Detections first find objects of their own class, so that the diagonal holds the true positives of precision and
    recall. What is left over on both sides is then matched whatever the class.
    """
    background = len(truth.class_names)
    kept = detections.scores > confidence
    found = matches.correct & kept
    left = matches.wrong & kept
    missed = ~truth.crowd
    missed[matches.truth[found]] = False
    near = (pairs.overlap >= IOU_THRESHOLD) & left[pairs.detection] & missed[pairs.truth]
    mistaken, _, finder = assign(pairs.select(near), detections.scores, len(truth))
    missed &= finder < 0
    labels = np.append(truth.labels, background)  # of object -1, which is none
    rows = [detections.labels[found], detections.labels[left], np.full(missed.sum(), background)]
    columns = [truth.labels[matches.truth[found]], labels[mistaken[left]], truth.labels[missed]]
    matrix = np.zeros((background + 1, background + 1), np.int64)
    np.add.at(matrix, (np.concatenate(rows), np.concatenate(columns)), 1)
    return Confusion(matrix, truth.class_names, confidence)
