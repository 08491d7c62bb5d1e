"""Precision, recall and F1 as curves: every class, and their mean."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from yolo.training.metrics import Evaluation
from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.curves import RECALLS, Curves
from yolo.training.metrics.flat import Floats, Indices
from yolo.training.plots.style import INK, SOFT, add_small_print, drawable_names, new_figure

MOST_NAMED = 10  # classes that are told apart by colour
NAMED_OF_MANY = 3  # best, and as many worst, of more
_MOST_POINTS = 80_000  # of all faint lines together
COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#e7298a", "#7570b3", "#66a61e", "#a6761d", "#17becf", "#b2182b", "#4d4d4d")


def pr_curve(evaluation: Evaluation, analysis: Analysis) -> Figure:
    """Draw COCO's interpolated precision by recall at IoU 0.5, with the AP50 of every class."""
    curves = analysis.curves
    figure, axes = _figure("Precision by recall", "recall", "precision")
    mean = np.nan_to_num(curves.precision_at_recall)  # classes without truth are not averaged
    _draw(axes, RECALLS, curves.precision_at_recall, curves, evaluation.class_names,
          mean=curves.mean(mean), values=evaluation.per_class[:, 1],
          mean_value=max(evaluation.stats.AP50, 0.0), title="AP50")  # fmt: skip
    limit = "AP50 is COCO's: at most 100 detections of a class in an image"
    add_small_print(figure, evaluation, *_absent(curves), limit)
    return figure


def f1_curve(evaluation: Evaluation, analysis: Analysis) -> Figure:
    """Draw F1 by confidence."""
    return _by_confidence(evaluation, analysis, analysis.curves.f1, "F1")


def precision_curve(evaluation: Evaluation, analysis: Analysis) -> Figure:
    """Draw precision by confidence."""
    kept = "a class of which nothing is left keeps its last precision here; in the tables it counts as 0"
    return _by_confidence(evaluation, analysis, analysis.curves.precision, "Precision", kept)


def recall_curve(evaluation: Evaluation, analysis: Analysis) -> Figure:
    """Draw recall by confidence."""
    return _by_confidence(evaluation, analysis, analysis.curves.recall, "Recall")


def _by_confidence(evaluation: Evaluation, analysis: Analysis, lines: Floats, name: str, *more: str) -> Figure:
    """Draw a quantity ``[classes, K]`` with the threshold of the highest mean F1 and the production threshold."""
    curves = analysis.curves
    figure, axes = _figure(f"{name} by confidence", "confidence", name if name == "F1" else name.lower())
    best, threshold = curves.best_f1()
    step = int(np.searchsorted(curves.confidence, threshold))
    mean = curves.mean(lines)
    if best > 0:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--", zorder=1.5)
        axes.plot([threshold], [mean[step]], marker="o", markersize=6, color=INK, zorder=5)
    axes.axvline(analysis.confidence, color=SOFT, linewidth=1, linestyle=":", zorder=1.5)
    _draw(axes, curves.confidence, lines, curves, evaluation.class_names,
          mean=mean, values=lines[:, step], mean_value=float(mean[step]),
          title=f"{name} at {threshold:.3f}")  # fmt: skip
    marked = f"dashed: highest mean F1, {best:.4f} at {threshold:.3f}; " if best > 0 else "no true positive; "
    add_small_print(figure, evaluation, *_absent(curves), *more, f"{marked}dotted: conf_prod {analysis.confidence:g}")
    return figure


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure, axes = new_figure(9.2, 5.7, left=0.7, right=2.9, bottom=1.1, top=0.45)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", size=12, weight="bold")
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _draw(
    axes: Axes, x: Floats, lines: Floats, curves: Curves, names: tuple[str, ...], *,
    mean: Floats, values: Floats, mean_value: float, title: str,
) -> None:  # fmt: skip
    """Draw the classes that have truth, faint where they are many, and their mean.

    Args:
        axes: to draw in.
        x: ``[K]``.
        lines: ``[classes, K]``.
        curves: that they belong to.
        names: of the classes.
        mean: ``[K]``.
        values: ``[classes]``, what is written behind the names, and what ranks them where they are many.
        mean_value: the same of the mean.
        title: what the values are.
    """
    seen = np.flatnonzero(curves.truths > 0)
    shown = seen if len(seen) <= MOST_NAMED else _extremes(seen, values)
    others = np.setdiff1d(seen, shown)
    labels = drawable_names(names)
    handles = [Line2D([], [], color=INK, linewidth=3, label=f"{mean_value:.3f}  mean of {len(seen)} classes")]
    if len(others):
        stride = -(-len(others) * len(x) // _MOST_POINTS)
        bundle = [np.column_stack((x[::stride], line[::stride])) for line in lines[others]]
        axes.add_collection(LineCollection(bundle, colors="#9aa5b1", linewidths=0.6, alpha=0.45, label="others"))
    for place, (label, colour) in enumerate(zip(shown.tolist(), COLOURS, strict=False)):
        width = 1.2 if len(others) else 1.6
        axes.plot(x, lines[label], color=colour, linewidth=width, label=labels[label])
        group = "" if not len(others) else "best: " if place < NAMED_OF_MANY else "worst: "
        text = f"{values[label]:.3f}  {group}{labels[label]}"
        handles.append(Line2D([], [], color=colour, linewidth=width, label=text))
    if len(others):
        handles.append(Line2D([], [], color="#9aa5b1", linewidth=1, label=f"{len(others)} other classes"))
    axes.plot(x, mean, color=INK, linewidth=3, label="mean")
    legend = axes.legend(handles=handles, title=title, loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False,
                         fontsize=8, title_fontsize=9, alignment="left")  # fmt: skip
    for entry in legend.get_texts():
        entry.set_parse_math(False)  # a dollar sign is part of a name


def _extremes(seen: Indices, values: Floats) -> Indices:
    """The classes with the highest and those with the lowest values, best first."""
    ranked = seen[np.argsort(-values[seen], kind="stable")]
    return np.concatenate([ranked[:NAMED_OF_MANY], ranked[-NAMED_OF_MANY:]])


def _absent(curves: Curves) -> list[str]:
    absent = int((curves.truths == 0).sum())
    return [f"not drawn: {absent} of {len(curves.truths)} classes, which have no object"] if absent else []
