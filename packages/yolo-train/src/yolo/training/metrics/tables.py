"""Evaluations as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolo.cli.output import print_table
from yolo.training.metrics.evaluator import Evaluation

BARS = "▁▂▃▄▅▆▇█"


def stats_lines(evaluation: Evaluation) -> list[str]:
    """Return the twelve COCO numbers as lines, each with its protocol spelled out."""
    texts = {
        "AP": "AP  IoU 0.50:0.95  all     100", "AP50": "AP  IoU 0.50       all     100",
        "AP75": "AP  IoU 0.75       all     100", "APs": "AP  IoU 0.50:0.95  small   100",
        "APm": "AP  IoU 0.50:0.95  medium  100", "APl": "AP  IoU 0.50:0.95  large   100",
        "AR1": "AR  IoU 0.50:0.95  all       1", "AR10": "AR  IoU 0.50:0.95  all      10",
        "AR100": "AR  IoU 0.50:0.95  all     100", "ARs": "AR  IoU 0.50:0.95  small   100",
        "ARm": "AR  IoU 0.50:0.95  medium  100", "ARl": "AR  IoU 0.50:0.95  large   100",
    }  # fmt: skip
    values = evaluation.stats.as_dict()
    return [f"{text}  {number(values[name])}" for name, text in texts.items()]


def print_quality(evaluation: Evaluation) -> None:
    """Print the summary of an evaluation on one row."""
    stats = evaluation.stats
    precision, recall, f1 = evaluation.counts.means()
    at = f"@{evaluation.operating_confidence:g}"
    cells = {
        "AP50-95": stats.AP, "AP50": stats.AP50, "AP75": stats.AP75, "AR@100": stats.AR100,
        "APs": stats.APs, "APm": stats.APm, "APl": stats.APl,
        f"P{at}": precision, f"R{at}": recall, f"F1{at}": f1,
    }  # fmt: skip
    few = "" if evaluation.images == evaluation.split_images else f" of {evaluation.split_images}"
    title = f"{evaluation.images}{few} images, {evaluation.protocol}"
    print_table(list(cells), [[number(value) for value in cells.values()]], title=title)


def print_classes(evaluation: Evaluation, most: int) -> None:
    """List the best and the worst classes by AP; classes without truth are left out."""
    ap = evaluation.per_class[:, 0]
    ranked = [int(i) for i in np.argsort(-np.nan_to_num(ap, nan=-1.0), kind="stable") if not np.isnan(ap[i])]
    shown = ranked if len(ranked) <= 2 * most else [*ranked[:most], *ranked[-most:]]
    precision, recall = evaluation.counts.precision(), evaluation.counts.recall()
    rows = []
    for i in shown:
        values = (ap[i], evaluation.per_class[i, 1], precision[i], recall[i])
        rows.append([evaluation.class_names[i], *map(number, values), evaluation.counts.truths[i]])
    at = f"@{evaluation.operating_confidence:g}"
    print_table(["class", "AP50-95", "AP50", f"P{at}", f"R{at}", "objects"], rows)


def number(value: float) -> str:
    """Format a metric; COCO's -1 and NaN, which mean that there is nothing to measure, become a dash."""
    return "-" if np.isnan(value) or value < 0 else f"{value:.4f}"


def sparkline(values: Sequence[float]) -> str:
    """Draw a course of values with block characters."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BARS[int((value - low) / span * (len(BARS) - 1))] for value in values)
