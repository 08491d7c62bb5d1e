"""Does a score of 0.8 mean right in eight cases of ten? The detection expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolo.training.metrics.flat import Detections, Floats, Indices
from yolo.training.metrics.matching import Matches


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores against precision.

    Attributes:
        error: D-ECE, the mean distance of score and precision, 0 to 1; NaN without detections. Kueppers et al.,
            arXiv:2004.13546, equation 4, binned by the score alone.
        edges: float64 ``[bins + 1]`` of the scores.
        scores: float64 ``[bins]`` mean score, NaN in an empty bin.
        precision: float64 ``[bins]`` share of true positives at IoU 0.5, NaN in an empty bin.
        counts: int64 ``[bins]`` detections.
    """

    error: float
    edges: Floats
    scores: Floats
    precision: Floats
    counts: Indices


def calibrate(detections: Detections, matches: Matches, *, bins: int = 20) -> Calibration:
    """Compare scores with precision in bins of equal width; detections in a crowd are left out."""
    counted = ~matches.ignored
    scores, correct = detections.scores[counted], matches.correct[counted]
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.ceil(scores * bins).astype(np.int64) - 1, 0, bins - 1)  # a score on an edge is in the bin below
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_score = np.bincount(which, scores, bins) / counts
        precision = np.bincount(which, correct, bins) / counts
    filled = counts > 0
    distance = np.abs(precision[filled] - mean_score[filled])
    error = float(distance @ counts[filled] / counts.sum()) if filled.any() else float("nan")
    return Calibration(error, edges, mean_score, precision, counts)
