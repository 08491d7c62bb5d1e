"""Is one run better than another, or was it luck with the images? The paired bootstrap.

Images are drawn with replacement as often as there are images, both runs are measured on each such draw, and the spread
of the differences is the uncertainty: B. Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of
Statistics 7 (1979), 1-26; percentile intervals as in B. Efron and R. Tibshirani, "An Introduction to the Bootstrap"
(1993), chapter 13. The draws are the same for both runs, as an image that is hard for one is hard for the other.

An image that was drawn w times is an image of weight w, so that a draw needs sums of weights and no new matching.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.coco import IOUS, MOST
from yolo.training.metrics.curves import RECALLS
from yolo.training.metrics.flat import Detections, Floats, Indices
from yolo.training.metrics.matching import match

_CELLS = 1 << 22  # of one block of arrays
Weights = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Scores:
    """Results of a run for R draws; NaN for a class without an object in a draw.

    Attributes:
        ap: float64 ``[classes, R]`` over IoU 0.50:0.95.
        ap50: float64 ``[classes, R]``.
        f1: float64 ``[classes, R]`` at the operating threshold and IoU 0.5.
    """

    ap: Floats
    ap50: Floats
    f1: Floats


def draws(images: int, count: int, *, seed: int = 0) -> Weights:
    """Draw images with replacement: how often each was drawn, int32 ``[images, count]``."""
    random = np.random.default_rng(seed)
    columns = (np.bincount(random.integers(0, images, images), minlength=images) for _ in range(count))
    return np.stack([column.astype(np.int32) for column in columns], axis=1)


def score(analysis: Analysis, weights: Weights) -> Scores:
    """Measure a run with weights for its images.

    Args:
        analysis: of the run.
        weights: ``[images, R]``. A column of ones gives what COCO gives.
    """
    found, truth, matches = analysis.detections, analysis.truth, analysis.matches
    classes, width = len(truth.class_names), weights.shape[1]
    totals = _by_class(weights, truth.image[~truth.crowd], truth.labels[~truth.crowd], classes)
    kept = found.scores > analysis.confidence
    right, wrong = kept & matches.correct, kept & matches.wrong
    hits = _by_class(weights, found.image[right], found.labels[right], classes)
    errors = _by_class(weights, found.image[wrong], found.labels[wrong], classes)
    f1 = _where_any(totals, 2 * hits, hits + errors + totals)

    order = _in_coco_order(found)
    labels = found.labels[order]
    at_iou = [match(found, truth, analysis.pairs, iou=iou) for iou in IOUS]
    correct = np.stack([matched.correct[order] for matched in at_iou])
    ignored = np.stack([matched.ignored[order] for matched in at_iou])
    ap = np.full((len(IOUS), classes, width), np.nan)
    for label in range(classes):
        rows = slice(*np.searchsorted(labels, [label, label + 1]))
        images = found.image[order[rows]]
        for block in _blocks(width, len(images)):
            mine, whole = weights[:, block], totals[label, block]
            seen = np.cumsum(mine[images], axis=0, dtype=np.int32)
            for i in range(len(IOUS)):
                area = _average_precision(mine, images, seen, correct[i, rows], ignored[i, rows], whole)
                ap[i, label, block] = np.where(whole > 0, area, np.nan)
    return Scores(ap.mean(axis=0), ap[0], f1)


def _average_precision(
    weights: Weights,
    images: Indices,
    seen: NDArray[np.int32],
    correct: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    truths: Indices,
) -> Floats:
    """COCO's average precision of one class at one overlap, for each column of weights.

    Precision is highest at true positives, so that only these are looked at.

    Args:
        weights: ``[images, R]``.
        images: ``[D]`` of the detections, in descending order of score.
        seen: ``[D, R]`` detections up to each, weighted.
        correct: ``[D]``.
        ignored: ``[D]``.
        truths: ``[R]`` objects, weighted.
    """
    where = np.flatnonzero(correct)
    if not len(where):
        return np.zeros(len(truths))
    hits = np.cumsum(weights[images[where]], axis=0, dtype=np.int32)
    counted = seen[where]
    if ignored.any():
        lost = np.flatnonzero(ignored)
        sums = np.cumsum(weights[images[lost]], axis=0, dtype=np.int32)
        before = np.searchsorted(lost, where)
        counted = counted - np.concatenate([np.zeros_like(sums[:1]), sums])[before]
    precision = hits / np.maximum(counted, 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    samples = np.diff(_recalls_reached(hits, truths), axis=0, prepend=0)  # how many recalls take each precision
    area: Floats = (envelope * samples).sum(axis=0) / len(RECALLS)
    return area


def _recalls_reached(hits: NDArray[np.int32], truths: Indices) -> Indices:
    """How many of COCO's 101 recalls are at most ``hits / truths``, compared as floats as COCO does."""
    recall = hits / np.maximum(truths, 1)
    step = np.minimum(100 * hits.astype(np.int64) // np.maximum(truths, 1), len(RECALLS) - 1)
    reached: Indices = step + (RECALLS[step] <= recall)
    return reached


def _in_coco_order(found: Detections) -> Indices:
    """Rows by class and descending score, without those beyond the hundred best of a class in an image."""
    within = np.lexsort((-found.scores, found.labels, found.image))
    first = np.ones(len(within), bool)
    first[1:] = (np.diff(found.labels[within]) != 0) | (np.diff(found.image[within]) != 0)
    place = np.arange(len(within)) - np.maximum.accumulate(np.where(first, np.arange(len(within)), 0))
    order = np.lexsort((-found.scores, found.labels))
    allowed = np.empty(len(within), bool)
    allowed[within] = place < MOST[-1]
    kept: Indices = order[allowed[order]]
    return kept


def _by_class(weights: Weights, images: Indices, labels: Indices, classes: int) -> Indices:
    """Sum the weights of rows by class, ``[classes, R]``."""
    counts = np.zeros((classes, len(weights)))
    np.add.at(counts, (labels, images), 1)
    sums: Indices = np.rint(counts @ weights.astype(np.float64)).astype(np.int64)
    return sums


def _where_any(truths: Indices, part: Indices, whole: Indices) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=truths > 0)
    return ratio


def _blocks(width: int, rows: int) -> Iterator[slice]:
    step = max(1, min(width, _CELLS // max(rows, 1)))
    return (slice(start, start + step) for start in range(0, width, step))
