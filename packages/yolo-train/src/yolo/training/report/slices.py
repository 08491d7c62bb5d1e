"""How results depend on the size of objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.coco import CocoStats
from yolo.training.metrics.operating import Counts

_EDGES = (0.0, 32.0**2, 96.0**2, np.inf)
NAMES = ("small", "medium", "large")


@dataclass(frozen=True, eq=False)
class SizeSlice:
    """Results for objects of one size.

    Attributes:
        name: small, medium or large: areas up to 32² and 96² square pixels of the original picture, as COCO has them.
        ap: AP, -1 without objects.
        ar: AR with 100 detections, -1 without objects.
        counts: at the operating threshold. A true positive has the size of its object, a false positive its own.
    """

    name: str
    ap: float
    ar: float
    counts: Counts


def slice_by_size(analysis: Analysis, stats: CocoStats) -> list[SizeSlice]:
    """Count by size; AP and AR are COCO's own."""
    found, truth, matches = analysis.detections, analysis.truth, analysis.matches
    classes = len(truth.class_names)
    own = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    area = np.where(matches.correct, np.append(truth.area, 0.0)[matches.truth], own)
    kept = found.scores > analysis.confidence
    averages = {"small": (stats.APs, stats.ARs), "medium": (stats.APm, stats.ARm), "large": (stats.APl, stats.ARl)}
    slices = []
    for name, low, high in zip(NAMES, _EDGES, _EDGES[1:], strict=False):
        mine = kept & (area >= low) & (area < high)
        objects = ~truth.crowd & (truth.area >= low) & (truth.area < high)
        counts = Counts(
            np.bincount(found.labels[mine & matches.correct], minlength=classes),
            np.bincount(found.labels[mine & matches.wrong], minlength=classes),
            np.bincount(truth.labels[objects], minlength=classes),
        )
        slices.append(SizeSlice(name, *averages[name], counts))
    return slices
