"""COCO's twelve numbers from flat arrays, equal to those of pycocotools.

Own code rather than a library, by measurement (``benchmarks/evaluation.py``, 5,000 images with 100 detections each):
libraries want a dictionary for each detection, and making and unpacking those takes longer than the evaluation.
faster-coco-eval needs 8 s and 1 GB, without making the dictionaries; this needs 1 s and 150 MB, with the pairs that the
analysis of errors uses too. Equality with pycocotools is tested on golden and random cases: crowds, sizes, equal scores
and overlaps, more detections than count.

The rules, as pycocotools has them. In each image and class the 100 detections of the highest score count. A detection
takes the free object that it overlaps most; only where there is none, one that is ignored: a crowd, which any number of
detections may take, or an object outside of the range of sizes. A detection that takes an ignored object, or takes
none and is itself outside of the range of sizes, counts neither way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from yolo.training.metrics.curves import RECALLS, sample_precision
from yolo.training.metrics.flat import Detections, Floats, Indices, Truth
from yolo.training.metrics.matching import Pairs, settle

IOUS = np.linspace(0.5, 0.95, 10)
MOST = (1, 10, 100)  # detections of one class in an image
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class CocoStats:
    """The summary of the COCO detection challenge, -1 where there is nothing to measure.

    AP is averaged over IoU 0.50:0.05:0.95 unless said otherwise; s, m, l are objects below 32², below 96² and above,
    in pixels of the original image; AR1, AR10 and AR100 allow that many detections of a class in an image.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float

    def as_dict(self) -> dict[str, float]:
        """Return the numbers by name, in COCO's order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, eq=False)
class CocoResult:
    """What one evaluation gives.

    Attributes:
        stats: the twelve numbers.
        per_class: float64 ``[classes, 3]``: AP, AP50, AP75 of each class; NaN without truth.
    """

    stats: CocoStats
    per_class: NDArray[np.float64]


def coco_numbers(detections: Detections, truth: Truth, pairs: Pairs, *, image_ids: Indices | None = None) -> CocoResult:
    """Evaluate detections.

    Args:
        detections: of all scores.
        truth: objects and crowds.
        pairs: of these, at least all with an overlap of 0.5.
        image_ids: ``[images]`` distinct; equal scores in two images go by them, as in pycocotools. Else by row.
    """
    ranked = _rank(detections, truth, image_ids)
    classes = len(truth.class_names)
    precision = np.full((len(SIZES), len(IOUS), classes, len(RECALLS)), np.nan)
    recall = np.full((len(SIZES), len(MOST), len(IOUS), classes), np.nan)
    for size, limits in enumerate(SIZES.values()):
        outside = (truth.area < limits[0]) | (truth.area > limits[1])
        ignored_truth = truth.crowd | outside
        truths = np.bincount(truth.labels[~ignored_truth], minlength=classes)
        for iou, (found, ignored) in enumerate(_outcomes(ranked, truth, pairs, ignored_truth, limits)):
            counted = np.cumsum(~ignored)
            labels = ranked.labels[found]
            before = np.append(0, counted)[ranked.starts[labels]]
            precision[size, iou] = sample_precision(labels, counted[found] - before, truths)
            for most, number in enumerate(MOST):
                hits = np.bincount(labels[ranked.places[found] < number], minlength=classes)
                np.divide(hits, truths, out=recall[size, most, iou], where=truths > 0)
    small, medium, large = range(1, 4)
    last = len(MOST) - 1
    numbers = (
        precision[0], precision[0, 0], precision[0, 5], precision[small], precision[medium], precision[large],
        recall[0, 0], recall[0, 1], recall[0, last], recall[small, last], recall[medium, last], recall[large, last],
    )  # fmt: skip
    mean = precision[0].mean(axis=2).T  # [class, IoU]
    per_class = np.stack([mean.mean(axis=1), mean[:, 0], mean[:, 5]], axis=1)
    return CocoResult(CocoStats(*map(_mean, numbers)), per_class)


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Detections sorted by class, then from the highest score to the lowest, without those that are one too many.

    Attributes:
        labels: int64 ``[N]``.
        area: float64 ``[N]``.
        places: int64 ``[N]`` among the detections of the class in the image, from 0.
        starts: int64 ``[classes]`` the first row of each class.
        row: int64, for each original detection its row here, -1 if it has none.
    """

    labels: Indices
    area: Floats
    places: Indices
    starts: Indices
    row: Indices


def _rank(detections: Detections, truth: Truth, image_ids: Indices | None) -> _Ranked:
    image = detections.image if image_ids is None else np.argsort(np.argsort(image_ids))[detections.image]
    order = np.lexsort((image, -detections.scores, detections.labels))
    group = detections.labels[order] * truth.images + image[order]
    by_group = np.argsort(group, kind="stable")
    begins = np.flatnonzero(np.diff(group[by_group], prepend=-1))
    sizes = np.diff(begins, append=len(group))
    places = np.empty(len(group), np.int64)
    places[by_group] = np.arange(len(group)) - np.repeat(begins, sizes)
    kept = places < MOST[-1]
    order, places = order[kept], places[kept]
    row = np.full(len(detections), -1)
    row[order] = np.arange(len(order))
    boxes, labels = detections.boxes[order], detections.labels[order]
    return _Ranked(
        labels=labels,
        area=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        places=places,
        starts=np.searchsorted(labels, np.arange(len(truth.class_names))),
        row=row,
    )


def _outcomes(
    ranked: _Ranked, truth: Truth, pairs: Pairs, ignored_truth: NDArray[np.bool_], limits: tuple[float, float]
) -> Iterator[tuple[Indices, NDArray[np.bool_]]]:
    """For each IoU the rows of the true positives, ascending, and which rows count neither way."""
    rank = ranked.row[pairs.detection]
    near = (pairs.overlap >= IOUS[0]) & (rank >= 0)
    near[near] = ranked.labels[rank[near]] == truth.labels[pairs.truth[near]]
    rank, choice, overlap = rank[near], pairs.truth[near], pairs.overlap[near]
    order = np.lexsort((-choice, -overlap, ignored_truth[choice], rank))
    rank, choice, overlap = rank[order], choice[order], overlap[order]
    outside = (ranked.area < limits[0]) | (ranked.area > limits[1])
    for least in IOUS:
        enough = overlap >= least
        finder, wanted = rank[enough], choice[enough]
        held = settle(finder, wanted, len(truth), shared=truth.crowd)
        finder, counts = finder[held], ~ignored_truth[wanted[held]]
        ignored = outside.copy()
        ignored[finder] = ~counts
        yield finder[counts], ignored


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else -1.0
