"""What the script of a page needs, as JSON in the page: small, and without a way out of its element."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.curves import RECALLS, Curves
from yolo.training.metrics.evaluator import Evaluation
from yolo.training.metrics.flat import Floats
from yolo.training.report.markup import Html, tag
from yolo.training.report.pictures import shown_classes

_ESCAPED = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


def script_data(content: Mapping[str, Any]) -> Html:
    """Return the element that holds the data; no text in it can end the element."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False).translate(_ESCAPED)
    return tag("script", Html(text), type="application/json", id_="data")


def report_data(evaluation: Evaluation, analysis: Analysis) -> dict[str, Any]:
    """Curves and confusions of one run.

    ``steps`` has for each class ``[step, lost true positives, lost false positives, ...]``: from that step of the
    confidence on, counted from the step named before, so many fewer are left. The first entry holds what there is at
    confidence 0, negated.
    """
    curves, confusion = analysis.curves, analysis.confusion
    shown = shown_classes(confusion)
    matrix = confusion.matrix[np.ix_(shown, shown)]
    rows, columns = np.nonzero(matrix)
    cells = np.stack([rows, columns, matrix[rows, columns]], axis=1)
    return {
        "protocol": str(evaluation.protocol),
        "operating": evaluation.operating_confidence,
        "classes": list(analysis.truth.class_names),
        "truths": curves.truths.tolist(),
        "last": len(curves.confidence) - 1,
        "steps": _steps(curves),
        "recalls": RECALLS.round(4).tolist(),
        "pr": [None if np.isnan(row[0]) else _thousandths(row) for row in curves.precision_at_recall],
        "confusion": {"shown": shown.tolist(), "cells": cells.ravel().tolist()},
        "calibration": {
            "low": analysis.calibration.edges[:-1].round(4).tolist(),
            "counts": analysis.calibration.counts.tolist(),
            "score": _thousandths(analysis.calibration.scores),
            "precision": _thousandths(analysis.calibration.precision),
        },
    }


def comparison_data(lines: Mapping[str, tuple[Floats, Mapping[str, Floats]]]) -> dict[str, Any]:
    """Named lines ``[K]`` of charts, with their horizontal values."""
    return {
        "lines": {
            id_: {"x": x.round(4).tolist(), "y": {name: _thousandths(values) for name, values in named.items()}}
            for id_, (x, named) in lines.items()
        }
    }


def _thousandths(values: Floats) -> list[int | None]:
    return [None if np.isnan(value) else round(1000 * value) for value in values.tolist()]


def _steps(curves: Curves) -> list[list[int]]:
    """Counts of each class at the confidences where they change, as differences."""
    both = np.stack([curves.true_positives, curves.false_positives])
    lost = -np.diff(both, axis=2, prepend=0)
    packed = []
    for label in range(both.shape[1]):
        where = np.flatnonzero(lost[:, label].any(axis=0))
        rows = np.stack([np.diff(where, prepend=0), *lost[:, label, where]], axis=1)
        packed.append([int(number) for number in rows.ravel()])
    return packed
