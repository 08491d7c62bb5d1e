"""Does a score of 0.8 mean right in eight cases of ten? The detection expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo.training.metrics.flat import Detections, Floats, Indices
from yolo.training.metrics.matching import Matches


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores against precision.

    Attributes:
        error: D-ECE, the mean distance of score and precision over all detections, 0 to 1; NaN without any. Küppers et
            al., arXiv:2004.13546, binned by the score alone. Most detections of an evaluation are faint.
        error_above: the same over the detections above ``confidence``, which are those that a user sees.
        confidence: the operating threshold.
        edges: float64 ``[bins + 1]`` of the scores.
        scores: float64 ``[bins]`` mean score, NaN in an empty bin.
        precision: float64 ``[bins]`` share of true positives at IoU 0.5, NaN in an empty bin.
        counts: int64 ``[bins]`` detections.
    """

    error: float
    error_above: float
    confidence: float
    edges: Floats
    scores: Floats
    precision: Floats
    counts: Indices


def calibrate(detections: Detections, matches: Matches, *, confidence: float = 0.0, bins: int = 20) -> Calibration:
    """Compare scores with precision in bins of equal width; detections in a crowd are left out."""
    scores, correct = detections.scores[~matches.ignored], matches.correct[~matches.ignored]
    edges = np.arange(bins + 1) / bins
    above = scores > confidence
    mean_score, precision, counts = _binned(scores, correct, edges)
    return Calibration(
        error=_distance(mean_score, precision, counts),
        error_above=_distance(*_binned(scores[above], correct[above], edges)),
        confidence=confidence,
        edges=edges,
        scores=mean_score,
        precision=precision,
        counts=counts,
    )


def _binned(scores: Floats, correct: NDArray[np.bool_], edges: Floats) -> tuple[Floats, Floats, Indices]:
    bins = len(edges) - 1
    which = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, bins - 1)  # an edge belongs to the bin below
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        return np.bincount(which, scores, bins) / counts, np.bincount(which, correct, bins) / counts, counts


def _distance(scores: Floats, precision: Floats, counts: Indices) -> float:
    filled = counts > 0
    if not filled.any():
        return float("nan")
    return float(np.abs(precision - scores)[filled] @ counts[filled] / counts.sum())
