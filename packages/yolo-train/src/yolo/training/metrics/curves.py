"""Precision, recall and F1 by confidence, and average precision, from matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo.training.metrics.flat import Detections, Floats, Indices, Truth
from yolo.training.metrics.matching import Matches
from yolo.training.metrics.operating import Counts, ratio

RECALLS = np.linspace(0, 1, 101)  # where COCO samples precision


@dataclass(frozen=True, eq=False)
class Curves:
    """Counts of each class at ascending confidences; a detection is kept when its score is above the confidence.

    Attributes:
        confidence: float64 ``[K]`` from 0 to 1 in steps of 0.001.
        true_positives: int64 ``[classes, K]``.
        false_positives: int64 ``[classes, K]``.
        truths: int64 ``[classes]``.
        precision_at_recall: float64 ``[classes, 101]``, COCO's envelope at the recalls 0, 0.01, ... 1.
    """

    confidence: Floats
    true_positives: Indices
    false_positives: Indices
    truths: Indices
    precision_at_recall: Floats

    def counts(self, step: int) -> Counts:
        """Return the counts at one confidence."""
        return Counts(self.true_positives[:, step], self.false_positives[:, step], self.truths)

    @property
    def precision(self) -> Floats:
        """``[classes, K]``; where nothing is found any more, the precision of the last confidence with a detection."""
        found = self.true_positives + self.false_positives
        precision = ratio(self.true_positives, found)
        last = np.maximum((found > 0).sum(axis=1) - 1, 0)
        return np.where(found > 0, precision, precision[np.arange(len(precision)), last][:, None])

    @property
    def recall(self) -> Floats:
        """``[classes, K]``, 0 for a class without truth."""
        return ratio(self.true_positives, np.broadcast_to(self.truths[:, None], self.true_positives.shape))

    @property
    def f1(self) -> Floats:
        """``[classes, K]``."""
        return ratio(2 * self.true_positives, self.true_positives + self.false_positives + self.truths[:, None])

    def mean(self, values: Floats) -> Floats:
        """Average ``[classes, K]`` over the classes that have truth; zeros where none has."""
        seen = self.truths > 0
        mean: Floats = values[seen].mean(axis=0) if seen.any() else np.zeros(values.shape[1])
        return mean

    def best_f1(self) -> tuple[float, float]:
        """Return the highest F1, averaged over the classes that have truth, and the confidence where it is reached."""
        mean = self.mean(self.f1)
        best = int(mean.argmax())
        return float(mean[best]), float(self.confidence[best])

    def best_f1_per_class(self) -> tuple[Floats, Floats]:
        """Return the highest F1 of each class and its confidence, ``[classes]`` each."""
        best = self.f1.argmax(axis=1)
        return self.f1[np.arange(len(best)), best], self.confidence[best]

    def sweep(self, confidences: Sequence[float]) -> Floats:
        """Return precision, recall and F1, averaged as ``val/precision`` is, at confidences: ``[len, 3]``."""
        steps = np.abs(self.confidence[:, None] - np.asarray(confidences)).argmin(axis=0)
        return np.array([self.counts(int(step)).means() for step in steps]).reshape(-1, 3)


def compute_curves(detections: Detections, truth: Truth, matches: Matches, *, steps: int = 1001) -> Curves:
    """Count at every confidence and sample precision by recall."""
    classes = len(truth.class_names)
    confidence = np.arange(steps) / (steps - 1)
    kept_below = np.searchsorted(confidence, detections.scores, side="left")  # confidences that keep a detection

    def above(rows: NDArray[np.bool_]) -> Indices:
        cells = detections.labels[rows] * (steps + 1) + kept_below[rows]
        histogram = np.bincount(cells, minlength=classes * (steps + 1)).reshape(classes, steps + 1)
        return histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]

    by_score = np.argsort(-detections.scores, kind="stable")
    return Curves(
        confidence=confidence,
        true_positives=above(matches.correct),
        false_positives=above(matches.wrong),
        truths=truth.per_class,
        precision_at_recall=precision_at_recall(
            detections.labels[by_score], matches.correct[by_score], matches.wrong[by_score], truth.per_class
        ),
    )


def precision_at_recall(
    labels: Indices, correct: NDArray[np.bool_], wrong: NDArray[np.bool_], truths: Indices
) -> Floats:
    """Return COCO's interpolated precision by class, ``[classes, 101]``; its mean over recalls is AP.

    Args:
        labels: ``[N]`` of the detections, highest score first.
        correct: ``[N]`` true positives.
        wrong: ``[N]`` false positives; a detection that is neither counts neither way.
        truths: ``[classes]`` objects; a class without any gets NaN.
    """
    counted = np.flatnonzero(correct | wrong)
    small = labels[counted].astype(np.min_scalar_type(len(truths)))  # integers of 8 or 16 bits are sorted by radix
    counted = counted[np.argsort(small, kind="stable")]
    first = np.searchsorted(labels[counted], np.arange(len(truths)))
    hits = np.flatnonzero(correct[counted])
    hit_labels = labels[counted[hits]]
    return sample_precision(hit_labels, hits - first[hit_labels] + 1, truths)


def sample_precision(labels: Indices, places: Indices, truths: Indices) -> Floats:
    """Return what :func:`precision_at_recall` does, from H true positives, sorted by class, then by score.

    Args:
        labels: ``[H]``, ascending.
        places: ``[H]`` among the detections of the class that count, from 1: the second of five has place 2.
        truths: ``[classes]`` objects; a class without any gets NaN.
    """
    curves = np.full((len(truths), len(RECALLS)), np.nan)
    bounds = np.searchsorted(labels, np.arange(len(truths) + 1))
    for label in np.flatnonzero(truths > 0):
        place = places[bounds[label] : bounds[label + 1]]
        hits = np.arange(1, len(place) + 1)
        envelope = np.zeros(len(place) + 1)  # recalls that are never reached have precision 0
        envelope[:-1] = np.maximum.accumulate((hits / place)[::-1])[::-1]
        curves[label] = envelope[np.searchsorted(hits / truths[label], RECALLS, side="left")]
    return curves


def mean_ap(curves: Floats) -> float:
    """Average precision of ``[classes, recalls]``, over the classes that have truth; 0 where none has."""
    seen = ~np.isnan(curves[:, 0]) if len(curves) else np.zeros(0, bool)
    return float(curves[seen].mean()) if seen.any() else 0.0
