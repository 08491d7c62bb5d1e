"""The drawn parts of a report: curves, calibration and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.confusion import Confusion
from yolo.training.metrics.curves import RECALLS, Curves
from yolo.training.metrics.flat import Floats, Indices
from yolo.training.report.charts import Line, at, chart, dot, marker
from yolo.training.report.markup import Column, Html, join, number, table, tag
from yolo.training.report.sections import Section

COLOURED = 8  # classes that can be told apart by colour
MOST_LINES = 80
_THIN = slice(None, None, 10)
_MOST_IN_TABLE = 16
MOST_IN_MATRIX = 100
_LEVELS = 10
_CELL, _EDGE = 10, 96

CHARTS = {
    "pr": ("Precision by recall", "recall", "precision"),
    "f1": ("F1 by confidence", "confidence", "F1"),
    "p": ("Precision by confidence", "confidence", "precision"),
    "r": ("Recall by confidence", "confidence", "recall"),
}


def named_curves(curves: Curves) -> dict[str, tuple[Floats, Floats]]:
    """Return each chart's horizontal values ``[K]`` and its curves by class ``[classes, K]``."""
    x = curves.confidence
    return {
        "pr": (RECALLS, curves.precision_at_recall),
        "f1": (x, curves.f1),
        "p": (x, curves.precision),
        "r": (x, curves.recall),
    }


def curve_section(analysis: Analysis) -> Section:
    """The four curves, with a line for each class and their mean."""
    curves, names = analysis.curves, analysis.truth.class_names
    drawn = _drawn_classes(curves.truths)
    best, where = curves.best_f1()
    figures = []
    for id_, (x, values) in named_curves(curves).items():
        title, x_title, y_title = CHARTS[id_]
        mean, every = curves.mean(values), x if id_ == "pr" else x[_THIN]
        lines = [
            Line(names[i], every, values[i] if id_ == "pr" else values[i, _THIN], line_style(rank, len(drawn)))
            for rank, i in enumerate(drawn)
        ]
        mark = [] if id_ == "pr" else [marker(analysis.confidence, f"threshold {analysis.confidence:g}")]
        peak = [dot(where, best, "peak")] if id_ == "f1" and drawn else []
        said = in_words(id_, analysis)
        lines += [Line("mean", x, mean, "mean")] if drawn else []
        picture = chart(id_, f"{title}: {said}", x_title, y_title, lines, above=[*mark, *peak])
        caption = tag("figcaption", tag("b", title), tag("span", said, class_="readout"))
        figures.append(tag("figure", caption, picture))
    legend = _legend([names[i] for i in drawn]) if len(drawn) <= COLOURED else ""
    lead = (
        "The strong line is the mean over classes; the others are single classes, at IoU 0.5. Where a class has no "
        "detection left, its precision is drawn on at the last value."
    )
    if len(drawn) < (curves.truths > 0).sum():
        lead += f" Drawn are the {len(drawn)} classes with the most objects."
    box = tag("div", id_="highlight", class_="panel", hidden=True)
    return Section("curves", "Curves", join([legend, box, tag("div", *figures, class_="charts")]), lead)


def line_style(rank: int, count: int) -> str:
    """The style of a class's line: a colour of its own while there are few."""
    return f"c{rank}" if count <= COLOURED else "class"


def _drawn_classes(truths: Indices) -> list[int]:
    """Classes that have objects; the most frequent ones where there are many."""
    order = np.argsort(-truths, kind="stable")[:MOST_LINES]
    return sorted(i for i in order.tolist() if truths[i] > 0)


def in_words(id_: str, analysis: Analysis) -> str:
    """Say what the mean curve of a chart comes to."""
    curves = analysis.curves
    if not curves.truths.any():
        return "nothing to measure, as there are no objects"
    mean = curves.mean(named_curves(curves)[id_][1])
    if id_ == "pr":
        return f"area {mean.mean():.3f} (AP50), precision {mean[50]:.3f} at recall 0.5"
    shown = float(mean[np.abs(curves.confidence - analysis.confidence).argmin()])
    text = f"mean {shown:.3f} at confidence {analysis.confidence:g}"
    if id_ == "f1":
        best, where = curves.best_f1()
        return f"{text}, best {best:.3f} at {where:.2f}"
    strict = analysis.counts.means()[0]
    if id_ == "p" and abs(strict - shown) > 5e-4:
        return f"{text}; {strict:.3f} where a class without a detection counts as 0"
    return text


def _legend(names: Sequence[str]) -> Html:
    keys = [tag("li", tag("i", class_="key mean"), "mean")]
    keys += [tag("li", tag("i", class_=f"key c{i}"), name) for i, name in enumerate(names)]
    return tag("ul", *keys, class_="legend")


def calibration_section(analysis: Analysis) -> Section:
    """Whether scores can be taken for probabilities."""
    found = analysis.calibration
    filled = found.counts > 0
    share = np.log1p(found.counts) / np.log1p(max(found.counts.max(), 1))
    bars = []
    for low, high, part in zip(found.edges[:-1], found.edges[1:], share, strict=True):
        (left, bottom), (right, top) = at(float(low), 0.0), at(float(high), float(part) * 0.25)
        size = {"width": f"{right - left - 1:.1f}", "height": f"{bottom - top:.1f}"}
        bars.append(tag("rect", x=f"{left + 0.5:.1f}", y=f"{top:.1f}", class_="histogram", **size))
    diagonal = Line("", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "diagonal")
    line = Line("precision", found.scores[filled], found.precision[filled], "mean")
    above, every = number(found.error_above), number(found.error)
    said = (
        f"D-ECE, the mean distance of score and precision: {above} above {found.confidence:g}, {every} over all scores"
    )
    dots = [dot(float(x), float(y), "peak") for x, y in zip(line.x, line.y, strict=True)]
    picture = chart(
        "calibration", f"Calibration. {said}.", "score", "precision", [diagonal, line], below=bars, above=dots
    )
    caption = tag("figcaption", tag("b", "Calibration"), tag("span", said, class_="readout"))
    rows = [
        [f"{low:.2f} to {high:.2f}", int(count), number(score), number(precision)]
        for low, high, count, score, precision in zip(
            found.edges[:-1], found.edges[1:], found.counts, found.scores, found.precision, strict=True
        )
    ]
    columns = [Column("Score", False), Column("Detections"), Column("Mean score"), Column("Precision")]
    listed = table("Detections by score; precision at IoU 0.5.", columns, rows, id_="bins")
    lead = (
        "On the diagonal a score of 0.8 is right in eight cases of ten; below it, scores promise too much. "
        "The bars show how many detections there are, on a logarithmic scale."
    )
    content = tag("div", tag("figure", caption, picture), listed, class_="charts beside")
    return Section("calibration", "Calibration", content, lead)


def confusion_section(analysis: Analysis) -> Section:
    """What is taken for what."""
    confusion = analysis.confusion
    top = confusion.top(20)
    columns = [Column("Predicted", False), Column("True", False), Column("Times")]
    said = f"at confidence {confusion.confidence:g} and IoU 0.5"
    listed = (
        table(f"The most frequent confusions of two classes, {said}.", columns, top, id_="confusions") if top else ""
    )
    none = "" if top else tag("p", f"No class was taken for another one {said}.")
    few = len(confusion.class_names) <= _MOST_IN_TABLE
    matrix = _matrix_table(confusion, said) if few else _matrix_picture(confusion, said)
    lead = (
        "Rows are what was predicted, columns what is there. The last column holds detections without an object, "
        "the last row objects without a detection. Shades are shares of a column."
    )
    return Section("confusion", "Confusions", join([matrix, listed, none]), lead)


def shown_classes(confusion: Confusion) -> Indices:
    """Classes in the drawn matrix: those in use, of many those with the most mistakes; the background is last."""
    matrix = confusion.matrix
    classes = len(confusion.class_names)
    used = matrix.sum(0) + matrix.sum(1)
    mistakes = used - 2 * np.diag(matrix)
    order = np.lexsort((-used[:classes], -mistakes[:classes]))
    order = order[used[order] > 0][:MOST_IN_MATRIX]
    return np.append(np.sort(order), classes)


def _shades(confusion: Confusion) -> Indices:
    """How dark a cell is: 0 for none, else 1 to 10 by its share of the column."""
    whole = np.maximum(confusion.matrix.sum(axis=0, keepdims=True), 1)
    shades: Indices = np.ceil(np.sqrt(confusion.matrix / whole) * _LEVELS).astype(np.int64)
    return shades


def _matrix_table(confusion: Confusion, said: str) -> Html:
    names, shades = [*confusion.class_names, "background"], _shades(confusion)
    head = [tag("th", tag("span", name), scope="col", class_="tall") for name in names]
    rows = []
    for i, name in enumerate(names):
        cells = [
            tag("td", int(count) or "", class_=f"heat h{shade}" if shade else None)
            for count, shade in zip(confusion.matrix[i], shades[i], strict=True)
        ]
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    caption = tag("caption", tag("span", f"Confusion matrix {said}: counts."))
    body = [tag("thead", tag("tr", tag("td", "predicted \\ true", class_="corner"), *head)), tag("tbody", *rows)]
    whole = tag("table", caption, *body, class_="matrix", id_="matrix")
    return tag("div", whole, class_="scroll", role="group", tabindex="0", aria_label="Table: confusion matrix")


def _matrix_picture(confusion: Confusion, said: str) -> Html:
    shown, shades = shown_classes(confusion), _shades(confusion)
    names = [*confusion.class_names, "background"]
    side = _EDGE + _CELL * len(shown)
    part = shades[np.ix_(shown, shown)]
    paths = []
    for level in range(1, _LEVELS + 1):
        cells = np.argwhere(part == level)
        drawn = "".join(f"M{_EDGE + _CELL * x} {_EDGE + _CELL * y}h9v9h-9z" for y, x in cells.tolist())
        paths.append(tag("path", d=drawn, class_=f"h{level}") if drawn else "")
    labels = []
    for place, i in enumerate(shown.tolist()):
        name, middle = (
            names[i] if len(names[i]) <= 16 else names[i][:15] + "\N{HORIZONTAL ELLIPSIS}",
            _EDGE + _CELL * place + 8,
        )
        labels += [
            tag("text", name, x=_EDGE - 4, y=middle, text_anchor="end"),
            tag("text", name, x=4 - _EDGE, y=middle, transform="rotate(-90)", text_anchor="start"),
        ]
    picture = tag(
        "svg",
        tag("rect", x=_EDGE, y=_EDGE, width=side - _EDGE, height=side - _EDGE, class_="ground"),
        *paths,
        tag("g", *labels, aria_hidden="true"),
        tag("rect", class_="cursor", width=_CELL, height=_CELL, visibility="hidden"),
        viewBox=f"0 0 {side} {side}",
        role="img",
        aria_label=f"Confusion matrix {said}; the table below names the most frequent confusions",
        class_="matrix",
        id_="matrix",
    )
    cut = len(shown) > MOST_IN_MATRIX
    which = (
        f"The {len(shown) - 1} classes with the most mistakes" if cut else "Classes that are there or were predicted"
    )
    caption = tag("figcaption", tag("b", f"Confusion matrix {said}"), tag("span", f"{which}.", class_="readout"))
    frame = tag("div", picture, class_="scroll", role="group", tabindex="0", aria_label="Confusion matrix")
    return tag("figure", caption, frame)
