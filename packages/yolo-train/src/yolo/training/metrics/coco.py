"""COCO's twelve numbers, computed by faster-coco-eval, which agrees with pycocotools (tested to 1e-6)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CocoStats:
    """The summary of the COCO detection challenge, -1 where there is nothing to measure.

    AP is averaged over IoU 0.50:0.05:0.95 unless said otherwise; s, m, l are objects below 32², below 96² and above,
    in pixels of the original image; AR1, AR10 and AR100 allow that many detections in an image.
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


@dataclass(frozen=True)
class CocoResult:
    """What one evaluation gives.

    Attributes:
        stats: the twelve numbers.
        per_class: float64 ``[classes, 3]``: AP, AP50, AP75 by category in ascending id; NaN without truth.
        category_ids: ascending, the rows of ``per_class``.
    """

    stats: CocoStats
    per_class: NDArray[np.float64]
    category_ids: tuple[int, ...]


def evaluate_coco(truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> CocoResult:
    """Evaluate detections in COCO's result format against a COCO ground truth.

    Args:
        truth: ``images``, ``annotations`` (bbox xywh, area, iscrowd, unique ids above 0) and ``categories``.
        detections: ``image_id``, ``category_id``, ``bbox`` (xywh, pixels of the original image), ``score``.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    ids = tuple(sorted(category["id"] for category in truth["categories"]))
    # The library talks on stdout.
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(dict(truth))
        results = coco.loadRes([dict(d) for d in detections]) if detections else _no_results(coco)
        evaluator = COCOeval_faster(coco, results, "bbox", print_function=lambda *_: None, extra_calc=False)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class] at all sizes, 100 detections
    return CocoResult(CocoStats(*(float(number) for number in evaluator.stats[:12])), _class_ap(precision), ids)


def _class_ap(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    valid = np.where(precision > -1, precision, np.nan)
    with np.errstate(invalid="ignore"):
        per_iou = np.stack([_mean(valid[i]) for i in range(len(valid))])  # [IoU, class]
    return np.stack([_mean(per_iou), per_iou[0], per_iou[5]], axis=1)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis that is NaN, without a warning, where all is NaN."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(0)
    count = known.sum(0)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _no_results(truth: Any) -> Any:
    from faster_coco_eval import COCO

    empty = COCO()
    empty.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [],
    }
    empty.createIndex()
    return empty
