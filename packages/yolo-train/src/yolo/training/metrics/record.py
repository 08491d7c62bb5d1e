"""An evaluation as plain data, for a JSON file: numbers only, and null where there is nothing to measure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo.training.metrics.calibration import Calibration
from yolo.training.metrics.operating import IOU_THRESHOLD
from yolo.training.metrics.tide import CAUSES

if TYPE_CHECKING:
    from yolo.training.metrics.analysis import Analysis
    from yolo.training.metrics.evaluator import Evaluation

SWEEP = tuple(step / 100 for step in range(5, 100, 5))
_MOST_CONFUSIONS = 20


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything that was measured, each part with what it was measured by.

    ``protocol`` is how the detections were made, on ``images`` of ``split_images``; that holds for all parts. Parts
    that need the detections are missing where the evaluation has none, which is so in processes other than the first.
    """
    record = {
        "protocol": {**asdict(evaluation.protocol), "match_iou": IOU_THRESHOLD},
        "images": evaluation.images,
        "split_images": evaluation.split_images,
        "operating_confidence": evaluation.operating_confidence,
        "stats": evaluation.stats.as_dict(),
        "metrics": evaluation.metrics(),
        "operating_point": _operating_point(evaluation),
        "per_class": _per_class(evaluation),
    }
    if evaluation.analysis is not None:
        record |= _analysis(evaluation.analysis)
    plain: dict[str, Any] = _plain(record)
    return plain


def _operating_point(evaluation: Evaluation) -> dict[str, Any]:
    counts = evaluation.counts
    precision, recall, f1 = counts.means()
    right, wrong, objects = (int(n.sum()) for n in (counts.true_positives, counts.false_positives, counts.truths))
    return {
        "confidence": evaluation.operating_confidence, "iou": IOU_THRESHOLD, "average": "classes with truth",
        "precision": precision, "recall": recall, "f1": f1,
        "true_positives": right, "false_positives": wrong, "false_negatives": objects - right, "objects": objects,
    }  # fmt: skip


def _per_class(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    counts = evaluation.counts
    columns = {
        **{name: evaluation.per_class[:, i] for i, name in enumerate(("AP", "AP50", "AP75"))},
        "precision": counts.precision(), "recall": counts.recall(), "f1": counts.f1(),
        "objects": counts.truths, "true_positives": counts.true_positives, "false_positives": counts.false_positives,
    }  # fmt: skip
    if evaluation.analysis is not None:
        best, confidence = evaluation.analysis.curves.best_f1_per_class()
        seen = counts.truths > 0
        columns |= {
            "best_f1": np.where(seen, best, np.nan), "best_f1_confidence": np.where(seen, confidence, np.nan)
        }  # fmt: skip
    return {
        name: {column: values[i] for column, values in columns.items()} for i, name in enumerate(evaluation.class_names)
    }


def _analysis(analysis: Analysis) -> dict[str, Any]:
    best, confidence = analysis.curves.best_f1()
    confusion, errors, spread = analysis.confusion, analysis.errors, analysis.spread
    kept = analysis.detections.scores > analysis.confidence
    faint = int((analysis.matches.correct & ~kept).sum())
    return {
        "best_f1": {"f1": best, "confidence": confidence, "iou": IOU_THRESHOLD},
        "sweep": [
            dict(zip(("confidence", "precision", "recall", "f1"), (at, *row), strict=True))
            for at, row in zip(SWEEP, analysis.curves.sweep(SWEEP), strict=True)
        ],
        "confusion": {
            "confidence": confusion.confidence, "iou": IOU_THRESHOLD, "rows": "predicted", "columns": "true",
            "classes": [*confusion.class_names, "background"], "matrix": confusion.matrix,
            "top": [
                {"predicted": predicted, "true": true, "count": count}
                for predicted, true, count in confusion.top(_MOST_CONFUSIONS)
            ],
        },
        "errors": {
            "confidence": "all", "iou": errors.iou, "AP": errors.ap, "counts": errors.counts, "gains": errors.gains,
            "unfound": errors.unfound,
            "gain_without_false_positives": errors.gain_without_false_positives,
            "gain_without_misses": errors.gain_without_misses,
            "at_operating_confidence": {
                "confidence": analysis.confidence,
                "false_positives": {cause: int((errors.cause[kept] == i).sum()) for i, cause in enumerate(CAUSES[:-1])},
                "false_negatives": {"below_confidence": faint, **errors.unfound},
            },
        },
        "detections": {
            "confidence": analysis.confidence, "iou": IOU_THRESHOLD,
            "mean_per_image": spread.mean, "p95_per_image": spread.p95, "mean_iou": spread.mean_iou,
        },
        "calibration": _calibration(analysis.calibration),
    }  # fmt: skip


def _calibration(found: Calibration) -> dict[str, Any]:
    bins = zip(found.edges[:-1], found.edges[1:], found.counts, found.scores, found.precision, strict=True)
    return {
        "d_ece": found.error, "d_ece_above": found.error_above, "confidence": found.confidence, "iou": IOU_THRESHOLD,
        "bins": [dict(zip(("low", "high", "count", "score", "precision"), row, strict=True)) for row in bins],
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Python's own numbers, with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value
