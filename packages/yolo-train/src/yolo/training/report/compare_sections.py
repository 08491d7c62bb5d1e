"""The parts of the comparison of two runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.evaluator import Evaluation
from yolo.training.metrics.flat import Floats
from yolo.training.metrics.tide import CAUSES
from yolo.training.report.charts import Line, chart, interval
from yolo.training.report.compare import ENOUGH, Comparison, Difference
from yolo.training.report.markup import Column, Html, join, number, signed, table, tag
from yolo.training.report.pictures import CHARTS, in_words, named_curves
from yolo.training.report.sections import CAUSE_TEXTS, Section, mean_figures
from yolo.training.report.slices import slice_by_size

_BOTH = ("first", "second")


def comparison_sections(
    evaluations: tuple[Evaluation, Evaluation],
    analyses: tuple[Analysis, Analysis],
    comparison: Comparison,
    names: tuple[str, str],
) -> list[Section]:
    """Return every part of the page."""
    return [
        _overall(comparison),
        _runs(evaluations, names),
        _classes(comparison, analyses[0]),
        _curves(analyses, names),
        _errors(analyses),
        _sizes(evaluations, analyses),
    ]


def mean_lines(
    analyses: tuple[Analysis, Analysis], names: tuple[str, str]
) -> dict[str, tuple[Floats, Mapping[str, Floats]]]:
    """Return each chart's horizontal values and the mean curves of both runs."""
    both = [{id_: (x, one.curves.mean(y)) for id_, (x, y) in named_curves(one.curves).items()} for one in analyses]
    labels = [f"{which}: {name}" for which, name in zip(_BOTH, names, strict=True)]
    return {
        id_: (both[0][id_][0], {label: run[id_][1] for label, run in zip(labels, both, strict=True)}) for id_ in CHARTS
    }


def verdict(difference: Difference) -> str:
    """Say in a word or two what the interval tells."""
    if np.isnan(difference.value):
        return "nothing to measure"
    if not difference.enough:
        return "too few images"
    if not difference.clear:
        return "not clear"
    return "second is better" if difference.low > 0 else "first is better"


def _overall(comparison: Comparison) -> Section:
    columns = [
        Column("Metric", False), Column("First"), Column("Second"),
        Column("Difference, 95 % interval", False, plain=True), Column("Verdict", False),
    ]  # fmt: skip
    scale = _scale(list(comparison.overall.values()))
    rows = [
        [name, number(d.first), number(d.second), _difference(d, scale), verdict(d)]
        for name, d in comparison.overall.items()
    ]
    caption = (
        f"Means over classes: second minus first, with percentile intervals of {comparison.resamples} resamples of the "
        f"images (paired bootstrap, seed {comparison.seed})."
    )
    lead = (
        "A difference is clear when its interval does not contain zero: it is then hardly luck with these images. How "
        "much another training of the same models would differ, the interval does not tell."
    )
    return Section("difference", "Difference", table(caption, columns, rows, id_="overall"), lead)


def _runs(evaluations: tuple[Evaluation, Evaluation], names: tuple[str, str]) -> Section:
    columns = [Column("", False), *(Column(which.capitalize(), False) for which in _BOTH)]
    rows: list[list[object]] = [["Run", *names], ["Protocol", *(str(one.protocol) for one in evaluations)]]
    rows.append(["Production threshold", *(f"{one.operating_confidence:g}" for one in evaluations)])
    stats = [one.stats.as_dict() for one in evaluations]
    rows += [[name, *(number(values[name], 4) for values in stats)] for name in stats[0]]
    means = zip(("Precision", "Recall", "F1"), *(mean_figures(one.counts, 4) for one in evaluations), strict=True)
    rows += [list(row) for row in means]
    return Section(
        "runs", "Both runs", table("How they were measured, and COCO's numbers.", columns, rows, sortable=False)
    )


def _classes(comparison: Comparison, analysis: Analysis) -> Section:
    columns = [
        Column("Class", False), Column("Objects"), Column("Images", hint="with an object of the class"),
        Column("AP, first"), Column("AP, second"), *(Column(f"{metric}, difference") for metric in comparison.classes),
    ]  # fmt: skip
    every = [d for rows in comparison.classes.values() for d in rows if not np.isnan(d.value)]
    body = [
        [
            name, objects, rows[0].images, number(rows[0].first), number(rows[0].second),
            *map(_difference, rows),
        ]
        for name, objects, *rows in zip(
            comparison.class_names, analysis.truth.per_class.tolist(), *comparison.classes.values(), strict=True
        )
    ]  # fmt: skip
    lead = (
        f"{sum(d.clear for d in every)} of {len(every)} differences are clear, and in bold. Of many intervals of 95 % "
        "some exclude zero by luck: about one in twenty where nothing differs. Where a class is in fewer than "
        f"{ENOUGH} images, no interval is given."
    )
    whole = table("Second minus first by class, with 95 % intervals.", columns, body, id_="per-class", filterable=True)
    return Section("classes", "Classes", whole, lead)


def _curves(analyses: tuple[Analysis, Analysis], names: tuple[str, str]) -> Section:
    figures = []
    for id_, (x, named) in mean_lines(analyses, names).items():
        title, x_title, y_title = CHARTS[id_]
        lines = [Line(name, x, y, f"c{rank} strong") for rank, (name, y) in enumerate(named.items())]
        said = "; ".join(f"{which}: {in_words(id_, one)}" for which, one in zip(_BOTH, analyses, strict=True))
        caption = tag("figcaption", tag("b", title), tag("span", said, class_="readout"))
        figures.append(tag("figure", caption, chart(id_, f"{title}. {said}", x_title, y_title, lines)))
    keys = [
        tag("li", tag("i", class_=f"key c{i}"), f"{which}: {name}")
        for i, (which, name) in enumerate(zip(_BOTH, names, strict=True))
    ]
    content = join([tag("ul", *keys, class_="legend"), tag("div", *figures, class_="charts")])
    return Section("curves", "Curves", content, "Means over classes, at IoU 0.5.")


def _errors(analyses: tuple[Analysis, Analysis]) -> Section:
    one, two = (analysis.errors for analysis in analyses)
    columns = [
        Column("Cause", False), Column("What it is", False), Column("Errors, first"), Column("Errors, second"),
        Column("AP50 to gain, first"), Column("AP50 to gain, second"),
    ]  # fmt: skip
    rows = [
        [
            cause,
            CAUSE_TEXTS[cause],
            one.counts[cause],
            two.counts[cause],
            signed(one.gains[cause]),
            signed(two.gains[cause]),
        ]
        for cause in CAUSES
    ]
    caption = f"Errors by cause at IoU {one.iou:g}, at all confidences."
    return Section("errors", "Error budget", table(caption, columns, rows, id_="causes"))


def _sizes(evaluations: tuple[Evaluation, Evaluation], analyses: tuple[Analysis, Analysis]) -> Section:
    columns = [Column("Size", False), Column("Objects")]
    columns += [Column(f"{metric}, {which}") for metric in ("AP", "AR", "P", "R") for which in _BOTH]
    slices = [slice_by_size(analysis, run.stats) for analysis, run in zip(analyses, evaluations, strict=True)]
    rows = []
    for pair in zip(*slices, strict=True):
        precision, recall, _ = zip(*(mean_figures(part.counts) for part in pair), strict=True)
        averages = [number(value) for value in (*(part.ap for part in pair), *(part.ar for part in pair))]
        rows.append([pair[0].name, int(pair[0].counts.truths.sum()), *averages, *precision, *recall])
    caption = "Results by the area of objects; precision and recall at each run's production threshold."
    return Section("sizes", "By size", table(caption, columns, rows))


def _difference(d: Difference, scale: float | None = None) -> Html:
    """The figure, in bold where it is clear, with its interval in figures, and drawn where a scale is given."""
    value = tag("b" if d.clear else "span", signed(d.value))
    if np.isnan(d.value):
        return tag("span", value, tag("small"), class_="difference")
    ends = tag("small", f"{signed(d.low)} to {signed(d.high)}" if d.enough else "too few images")
    drawn = interval(d.value, d.low, d.high, scale=scale, clear=d.clear) if scale and d.enough else ""
    return tag("span", value, " ", ends, drawn, class_="difference")


def _scale(differences: list[Difference]) -> float:
    """The farthest end of an interval, which fills the drawing."""
    ends = [abs(end) for d in differences for end in (d.low, d.high) if not np.isnan(end)]
    return max([*ends, 1e-3])
