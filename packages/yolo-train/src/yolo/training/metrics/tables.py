"""Evaluations as tables for people."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from rich.text import Text

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.evaluator import Evaluation
from yolo.training.metrics.operating import IOU_THRESHOLD
from yolo.training.metrics.table_view import Table, is_drawn, shortened, show_tables

BARS = "▁▂▃▄▅▆▇"  # none fills its line, so that rows stay apart
PLAIN_BARS = "_.,-~'^"
SWEEP = (0.1, 0.2, 0.3, 0.4, 0.5)
TREND_LENGTH = 10
TRENDS = {"AP50-95": "AP", "AP50": "AP50", "AR@100": "AR100"}


def print_dashboard(
    evaluation: Evaluation,
    *,
    history: Sequence[Mapping[str, float]] = (),
    best: float | None = None,
    top_n: int = 3,
    info: Sequence[str] = (),
) -> None:
    """Print everything that one looks at after a validation; the first table holds the protocol of all of them.

    Args:
        evaluation: of the process that holds the detections.
        history: :func:`trend_values` of the validations so far, the present one last, each with its ``epoch``; no
            trends with fewer than two.
        best: the highest :func:`score` before this evaluation, minus infinity when it is the first; None compares
            with nothing.
        top_n: how many of the best and of the worst classes, and of the confusions, are listed.
        info: lines for the first table, such as ``"epoch: 25/100"``.
    """
    plain = not is_drawn(sys.stdout)
    show_tables(dashboard_tables(evaluation, history=history, best=best, top_n=top_n, info=info, plain=plain))


def dashboard_tables(
    evaluation: Evaluation,
    *,
    history: Sequence[Mapping[str, float]] = (),
    best: float | None = None,
    top_n: int = 3,
    info: Sequence[str] = (),
    plain: bool = True,
) -> list[Table]:
    """Return what :func:`print_dashboard` prints; ``plain`` asks for ASCII where there is a choice."""
    analysis = evaluation.analysis
    tables = [_summary(evaluation, best, info), _quality(evaluation), _operative(evaluation)]
    if len(history) > 1:
        tables.append(_trends(history[-TREND_LENGTH:], PLAIN_BARS if plain else BARS))
    if analysis is not None:
        tables.append(_sweep(analysis, evaluation.protocol.confidence))
    ranked = _ranked(evaluation)
    if top_n > 0 and ranked:
        tables.append(_classes(evaluation, "PER-CLASS: TOP by AP50-95", ranked[:top_n]))
        tables.append(_classes(evaluation, "PER-CLASS: WORST by AP50-95", ranked[::-1][:top_n]))
    tables.append(_health(evaluation))
    confusions = analysis.confusion.top(top_n) if analysis is not None and top_n > 0 else []
    if confusions:
        tables.append(_confusions(confusions, _threshold(evaluation), "->" if plain else "→"))
    return tables


def score(evaluation: Evaluation) -> float:
    """Return mAP in the precision in which checkpoints compare it: what they take for equal is no new best."""
    return float(np.float32(evaluation.metrics()["val/mAP"]))


def trend_values(evaluation: Evaluation) -> dict[str, float]:
    """Return the numbers of which trends are drawn, by COCO's names."""
    stats = evaluation.stats.as_dict()
    return {name: stats[name] for name in TRENDS.values()}


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


def number(value: float) -> str:
    """Format a metric; COCO's -1 and NaN, which mean that there is nothing to measure, become a dash."""
    return "-" if math.isnan(value) or value < 0 else f"{value:.4f}"


def sparkline(values: Sequence[float], bars: str = BARS) -> str:
    """Draw a course of values, lowest to highest, with one sign each; one that never moves lies in the middle."""
    low, span = min(values), max(values) - min(values)
    places = [(value - low) / span if span > 0 else 0.5 for value in values]
    return "".join(bars[min(int(place * len(bars)), len(bars) - 1)] for place in places)


def _summary(evaluation: Evaluation, best: float | None, info: Sequence[str]) -> Table:
    protocol = evaluation.protocol
    part = "" if evaluation.images == evaluation.split_images else f" of {evaluation.split_images}"
    facts = [*info, f"imgs: {evaluation.images}{part}", f"size: {protocol.size[0]}x{protocol.size[1]}"]
    settings = [
        f"conf: {protocol.confidence:g}  iou: {protocol.iou:g}",
        f"max: {protocol.max_detections}  weights: {protocol.weights}",
        f"conf_prod: {evaluation.operating_confidence:g}",
    ]
    cells = [_lines(facts), _compared(score(evaluation), best), _lines(settings)]
    return Table("EVAL SUMMARY", {"Info": "left", "mAP": "left", "Settings": "left"}, [cells])


def _compared(value: float, best: float | None) -> Text:
    """The score, how far it is from the best before it, and whether it is the best now."""
    text = Text(f"{value:.4f}")
    if best is None:
        return text
    change = f" ({value - best:+.4f})" if best >= 0 else ""
    if value > best:
        return text.append(change, style="green").append(" [NEW BEST]", style="bold green")
    return text.append(change, style="bold red" if value < best else "").append(f"\nbest: {best:.4f}")


def _quality(evaluation: Evaluation) -> Table:
    stats = evaluation.stats
    return _one_row("KPI (QUALITY)", {
        "AP50-95": stats.AP, "AP50": stats.AP50, "AP75": stats.AP75, "AR@100": stats.AR100,
        "APs": stats.APs, "APm": stats.APm, "APl": stats.APl,
    })  # fmt: skip


def _operative(evaluation: Evaluation) -> Table:
    precision, recall, f1 = evaluation.counts.means()
    at = _threshold(evaluation)
    cells: dict[str, float | str] = {f"P@{at}": precision, f"R@{at}": recall, f"F1@{at}": f1}
    if evaluation.analysis is not None:
        best, confidence = evaluation.analysis.curves.best_f1()
        cells |= {"best-F1": best, "conf_best": f"{confidence:.3f}" if best > 0 else "-"}
    return _one_row(f"KPI (OPERATIVE @ {at})", cells)


def _trends(history: Sequence[Mapping[str, float]], bars: str) -> Table:
    rows = []
    for title, name in TRENDS.items():
        values = [entry[name] for entry in history if entry.get(name, -1) >= 0]
        if values:
            span = f"min: {min(values):.4f}  max: {max(values):.4f}"
            rows.append(_texts([title, sparkline(values, bars), span]))
    epochs = [entry.get("epoch", math.nan) for entry in history]
    unit = "epochs" if all(later == earlier + 1 for earlier, later in pairwise(epochs)) else "validations"
    return Table(f"TRENDS (last {len(history)} {unit})", {"Metric": "left", "Trend": "left", "Range": "left"}, rows)


def _sweep(analysis: Analysis, kept_above: float) -> Table:
    """Means at some thresholds; at those below which no detection was kept, nothing is known."""
    rows = [
        _texts([f"{confidence:.2f}", *(number(value) if confidence >= kept_above else "-" for value in values)])
        for confidence, values in zip(SWEEP, analysis.curves.sweep(SWEEP).tolist(), strict=True)
    ]
    return Table("THRESHOLD SWEEP", {"conf": "right", "P": "right", "R": "right", "F1": "right"}, rows)


def _ranked(evaluation: Evaluation) -> list[int]:
    """The classes that have truth, the one with the highest AP first."""
    ap = evaluation.per_class[:, 0]
    return [int(row) for row in np.argsort(-ap, kind="stable") if not np.isnan(ap[row])]


def _classes(evaluation: Evaluation, title: str, rows: Sequence[int]) -> Table:
    recall, truths = evaluation.counts.recall(), evaluation.counts.truths
    cells = []
    for row in rows:
        values = (evaluation.per_class[row, 0], evaluation.per_class[row, 1], recall[row])
        cells.append(_texts([shortened(evaluation.class_names[row]), *map(number, values), str(truths[row])]))
    recalled = f"R@{_threshold(evaluation)}"
    return Table(title, {"Class": "left", "AP50-95": "right", "AP50": "right", recalled: "right", "GT": "right"}, cells)


def _health(evaluation: Evaluation) -> Table:
    counts = evaluation.counts
    missed = counts.truths - counts.true_positives
    cells: dict[str, float | str] = {"FP": f"{counts.false_positives.sum()}", "FN": f"{missed.sum()}"}
    if evaluation.analysis is not None:
        spread = evaluation.analysis.spread
        cells |= {
            "det/img mean": f"{spread.mean:.1f}",
            "det/img p95": f"{spread.p95:.4g}",
            "MeanIoU(TP)": spread.mean_iou,
        }
    at = _threshold(evaluation)
    return _one_row(f"ERROR HEALTH CHECK (@ {at}, IoU {IOU_THRESHOLD:g})", cells)


def _confusions(confusions: Iterable[tuple[str, str, int]], at: str, arrow: str) -> Table:
    rows = [
        _texts([str(place), shortened(predicted), arrow, shortened(true), str(count)])
        for place, (predicted, true, count) in enumerate(confusions, start=1)
    ]
    title = f"Top Confusions (pred {arrow} true) @ {at}"
    return Table(title, {"#": "right", "Predicted": "left", arrow: "left", "True": "left", "Count": "right"}, rows)


def _threshold(evaluation: Evaluation) -> str:
    """The confidence of the counts, with two decimals or as many as it has; below the protocol's nothing was kept."""
    confidence = max(evaluation.operating_confidence, evaluation.protocol.confidence)
    return f"{confidence:.2f}" if round(confidence, 2) == confidence else f"{confidence:g}"


def _one_row(title: str, cells: Mapping[str, float | str]) -> Table:
    texts = [value if isinstance(value, str) else number(value) for value in cells.values()]
    return Table(title, dict.fromkeys(cells, "right"), [_texts(texts)])


def _lines(lines: Sequence[str]) -> Text:
    return Text("\n".join(lines))


def _texts(cells: Sequence[str]) -> list[Text]:
    return [Text(cell) for cell in cells]
