"""Everything that one set of stored detections tells, each part computed when it is first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from yolo.training.metrics.calibration import Calibration, calibrate
from yolo.training.metrics.confusion import Confusion, confusion_matrix
from yolo.training.metrics.curves import Curves, compute_curves
from yolo.training.metrics.flat import Detections, Truth
from yolo.training.metrics.matching import Matches, Pairs, match, overlapping_pairs
from yolo.training.metrics.operating import IOU_THRESHOLD, Counts
from yolo.training.metrics.tide import ErrorBudget, error_budget


@dataclass(frozen=True)
class Spread:
    """How many detections there are, and how well they fit, at the operating threshold.

    Attributes:
        mean: detections per image.
        p95: 95th percentile of the detections per image.
        mean_iou: mean overlap of true positives with their objects, NaN without any.
    """

    mean: float
    p95: float
    mean_iou: float


@dataclass(frozen=True, eq=False)
class Analysis:
    """Detections against truth.

    Attributes:
        detections: of all scores that the protocol keeps.
        truth: objects and crowds of the evaluated images.
        confidence: the operating threshold; a detection counts when its score is above it.
    """

    detections: Detections
    truth: Truth
    confidence: float

    @cached_property
    def pairs(self) -> Pairs:
        """Detections and objects that overlap at all."""
        return overlapping_pairs(self.detections, self.truth)

    @cached_property
    def matches(self) -> Matches:
        """Which detection finds which object at IoU 0.5."""
        return match(self.detections, self.truth, self.pairs, iou=IOU_THRESHOLD)

    @cached_property
    def counts(self) -> Counts:
        """True and false positives of each class at the operating threshold."""
        kept, classes = self.detections.scores > self.confidence, len(self.truth.class_names)
        labels = self.detections.labels
        return Counts(
            np.bincount(labels[kept & self.matches.correct], minlength=classes),
            np.bincount(labels[kept & self.matches.wrong], minlength=classes),
            self.truth.per_class,
        )

    @cached_property
    def curves(self) -> Curves:
        """Precision, recall and F1 by confidence."""
        return compute_curves(self.detections, self.truth, self.matches)

    @cached_property
    def confusion(self) -> Confusion:
        """Predicted against true classes at the operating threshold."""
        return confusion_matrix(self.detections, self.truth, self.pairs, self.matches, confidence=self.confidence)

    @cached_property
    def errors(self) -> ErrorBudget:
        """Errors by cause, at all scores."""
        return error_budget(self.detections, self.truth, self.pairs, self.matches, iou=IOU_THRESHOLD)

    @cached_property
    def calibration(self) -> Calibration:
        """Scores against precision."""
        return calibrate(self.detections, self.matches, confidence=self.confidence)

    @cached_property
    def spread(self) -> Spread:
        """Detections per image and their fit."""
        kept = self.detections.scores > self.confidence
        per_image = np.bincount(self.detections.image[kept], minlength=self.truth.images)
        fit = self.matches.overlap[kept & self.matches.correct]
        return Spread(
            mean=float(per_image.mean()) if len(per_image) else 0.0,
            p95=float(np.percentile(per_image, 95)) if len(per_image) else 0.0,
            mean_iou=float(fit.mean()) if len(fit) else float("nan"),
        )
