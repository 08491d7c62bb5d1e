"""The tables of a report: every number is in the HTML, the script only helps to find it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.evaluator import Evaluation
from yolo.training.metrics.operating import IOU_THRESHOLD, Counts
from yolo.training.metrics.tide import CAUSES
from yolo.training.report.charts import bar
from yolo.training.report.markup import NOTHING, Column, Html, join, number, signed, table, tag
from yolo.training.report.slices import slice_by_size

COCO_TEXTS = {
    "AP": ("0.50:0.95", "all", "100"), "AP50": ("0.50", "all", "100"), "AP75": ("0.75", "all", "100"),
    "APs": ("0.50:0.95", "small", "100"), "APm": ("0.50:0.95", "medium", "100"), "APl": ("0.50:0.95", "large", "100"),
    "AR1": ("0.50:0.95", "all", "1"), "AR10": ("0.50:0.95", "all", "10"), "AR100": ("0.50:0.95", "all", "100"),
    "ARs": ("0.50:0.95", "small", "100"), "ARm": ("0.50:0.95", "medium", "100"), "ARl": ("0.50:0.95", "large", "100"),
}  # fmt: skip
CAUSE_TEXTS = {
    "classification": "right place, wrong class",
    "localisation": "right class, box too far off (IoU 0.1 to 0.5)",
    "both": "wrong class, and box too far off",
    "duplicate": "the object had been found already",
    "background": "no object there (IoU below 0.1)",
    "missed": "object that none of the above is about",
}


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading, and an entry in the contents."""

    id_: str
    title: str
    content: Html
    lead: object = ""

    def html(self) -> Html:
        """Return the part as an element."""
        head = tag("h2", self.title)
        lead = tag("p", self.lead, class_="lead") if self.lead else ""
        return tag("section", head, lead, self.content, id_=self.id_)


def summary(evaluation: Evaluation, analysis: Analysis, facts: Mapping[str, str]) -> Section:
    """The figures that one looks for first, and how they were measured."""
    stats, threshold = evaluation.stats, evaluation.operating_confidence
    precision, recall, f1 = mean_figures(evaluation.counts)
    best, where = analysis.curves.best_f1()
    cards = [
        ("AP", number(stats.AP), "IoU 0.50:0.95"),
        ("AP50", number(stats.AP50), "IoU 0.50"),
        ("AP75", number(stats.AP75), "IoU 0.75"),
        ("Precision", precision, f"at confidence {threshold:g}"),
        ("Recall", recall, f"at confidence {threshold:g}"),
        ("F1", f1, f"best {number(best)} at {where:.2f}" if best > 0 else f"at confidence {threshold:g}"),
    ]
    tiles = join(
        tag("div", tag("dt", name), tag("dd", tag("b", value), tag("span", note))) for name, value, note in cards
    )
    few = "" if evaluation.images == evaluation.split_images else f" of {evaluation.split_images} of the split"
    spread, truth = analysis.spread, analysis.truth
    rows = {
        "Protocol": str(evaluation.protocol),
        "Images": f"{evaluation.images}{few}",
        "Objects": f"{int(truth.per_class.sum())} of {len(truth.class_names)} classes"
        + (f", and {int(truth.crowd.sum())} crowd regions, which count neither way" if truth.crowd.any() else ""),
        "Threshold": f"{threshold:g}: precision, recall and F1 count the detections above it, at IoU {IOU_THRESHOLD}",
        "Detections": f"{spread.mean:.1f} an image above the threshold, at most {spread.p95:.0f} in 95 % of the images",
        "Fit": f"mean IoU of the true positives {number(spread.mean_iou)}",
        "Calibration": f"D-ECE {number(analysis.calibration.error_above)} above the threshold, "
        f"{number(analysis.calibration.error)} over all scores",
    } | {key[:1].upper() + key[1:]: value for key, value in facts.items()}
    listed = tag(
        "dl", join(tag("div", tag("dt", key), tag("dd", value)) for key, value in rows.items()), class_="facts"
    )
    return Section("summary", "Summary", join([tag("dl", tiles, class_="cards"), listed, coco_table(evaluation)]))


def coco_table(evaluation: Evaluation) -> Html:
    """The twelve numbers."""
    columns = [Column("Metric", False), Column("IoU", False), Column("Area", False), Column("Most detections")]
    rows = [[name, *COCO_TEXTS[name], number(value, 4)] for name, value in evaluation.stats.as_dict().items()]
    caption = f"The twelve numbers of COCO. {evaluation.protocol}."
    return table(caption, [*columns, Column("Value")], rows, id_="coco")


def classes(evaluation: Evaluation, analysis: Analysis) -> Section:
    """Every class on a row."""
    counts, per_class = evaluation.counts, evaluation.per_class
    at = f" at {evaluation.operating_confidence:g}"
    columns = [
        Column("Class", False), Column("Objects"), Column("AP"), Column("AP50"), Column("AP75"),
        Column("P", hint="precision" + at), Column("R", hint="recall" + at), Column("F1", hint="F1" + at),
        Column("Found", hint="true positives" + at), Column("Wrong", hint="false positives" + at),
        Column("Missed", hint="objects without a detection" + at),
    ]  # fmt: skip
    rows = [
        [name, objects, *map(number, average), *figures]
        for name, objects, average, figures in zip(
            evaluation.class_names, counts.truths.tolist(), per_class.tolist(), class_figures(counts), strict=True
        )
    ]
    caption = f"Classes. P, R, F1 and counts at confidence {evaluation.operating_confidence:g}, IoU {IOU_THRESHOLD}. "
    caption += f"{evaluation.protocol}."
    lead = "A dash stands where there is nothing to measure. Averages are over the classes that have objects."
    return Section("classes", "Classes", table(caption, columns, rows, id_="per-class", filterable=True), lead)


def errors(analysis: Analysis) -> Section:
    """What keeps AP from 1."""
    budget = analysis.errors
    columns = [
        Column("Cause", False), Column("What it is", False), Column("Errors"),
        Column("Objects lost", hint="objects that were not found because of it"), Column("AP50 gained if mended"),
        Column("", False, plain=True),
    ]  # fmt: skip
    most = max([*budget.gains.values(), budget.gain_without_false_positives, budget.gain_without_misses, 1e-9])
    rows = [
        [
            name,
            CAUSE_TEXTS[name],
            budget.counts[name],
            budget.unfound.get(name, NOTHING),
            signed(budget.gains[name]),
            bar(budget.gains[name] / most),
        ]
        for name in CAUSES
    ]
    totals = [
        ("all false positives", budget.gain_without_false_positives),
        ("all missed objects", budget.gain_without_misses),
    ]
    mended = [[name, signed(gain), bar(gain / most)] for name, gain in totals]
    caption = f"Errors by cause, at all confidences and IoU {budget.iou:g}; AP50 is {number(budget.ap)}."
    whole = table(
        "If a whole kind were mended.",
        [Column("Kind", False), Column("AP50 gained"), Column("", False, plain=True)],
        mended,
    )
    lead = (
        "The causes follow TIDE (arXiv:2008.08115). Each gain is what mending that cause alone would add; "
        "gains do not add up, because one mistake may hide another."
    )
    return Section("errors", "Error budget", join([table(caption, columns, rows, id_="causes"), whole]), lead)


def sizes(evaluation: Evaluation, analysis: Analysis) -> Section:
    """Results by the size of objects."""
    threshold = evaluation.operating_confidence
    columns = [
        Column("Size", False), Column("Objects"), Column("AP"), Column("AR"), Column("P"), Column("R"), Column("F1"),
        Column("Found"), Column("Wrong"), Column("Missed"),
    ]  # fmt: skip
    slices = slice_by_size(analysis, evaluation.stats)
    rows = [[part.name, *size_cells(part.counts, part.ap, part.ar)] for part in slices]
    rows.append(["all", *size_cells(evaluation.counts, evaluation.stats.AP, evaluation.stats.AR100)])
    caption = (
        f"Results by the area of objects in the original pictures. P, R, F1 and counts at confidence {threshold:g}, "
        f"IoU {IOU_THRESHOLD}; P, R and F1 are averages over classes. {evaluation.protocol}."
    )
    lead = "Small is below 32², medium below 96² pixels, large the rest. A false positive has the size of its own box."
    return Section("sizes", "By size", table(caption, columns, rows, id_="by-size"), lead)


def size_cells(counts: Counts, ap: float, ar: float) -> Iterable[object]:
    """The figures of a row of the table of sizes."""
    objects, right = int(counts.truths.sum()), int(counts.true_positives.sum())
    wrong = int(counts.false_positives.sum())
    return [objects, number(ap), number(ar), *mean_figures(counts), right, wrong, objects - right]


def thresholds(evaluation: Evaluation, analysis: Analysis) -> Section:
    """A threshold for each class; the script puts a slider into every row."""
    curves, threshold = analysis.curves, evaluation.operating_confidence
    best, where = curves.best_f1_per_class()
    counts = curves.counts(int(np.abs(curves.confidence - threshold).argmin()))
    columns = [
        Column("Class", False), Column("Confidence"), Column("P"), Column("R"), Column("F1"), Column("Found"),
        Column("Wrong"), Column("Missed"), Column("Best F1"), Column("at confidence"),
    ]  # fmt: skip
    rows = [
        [name, f"{threshold:.3f}", *figures, *((number(peak), f"{at:.3f}") if peak > 0 else (NOTHING, NOTHING))]
        for name, figures, peak, at in zip(evaluation.class_names, class_figures(counts), best, where, strict=True)
    ]
    caption = f"Results of each class above its confidence, at IoU {IOU_THRESHOLD}. {evaluation.protocol}."
    lead = "A detection counts when its score is above the confidence of its class."
    panel = tag("div", id_="chooser", class_="panel", hidden=True)
    listed = table(caption, columns, rows, id_="chosen", filterable=True)
    return Section("thresholds", "Thresholds", join([panel, listed]), lead)


def class_figures(counts: Counts) -> Iterator[list[object]]:
    """Precision, recall, F1, found, wrong and missed of each class; a dash where there is nothing to measure."""
    rates = counts.precision(), counts.recall(), counts.f1()
    for objects, right, wrong, *values in zip(
        counts.truths.tolist(), counts.true_positives.tolist(), counts.false_positives.tolist(), *rates, strict=True
    ):
        known = right + wrong > 0, objects > 0, objects > 0
        shown = [number(value) if there else NOTHING for value, there in zip(values, known, strict=True)]
        yield [*shown, right, wrong, objects - right]


def mean_figures(counts: Counts, digits: int = 3) -> list[str]:
    """Precision, recall and F1 as averages over classes; dashes without any object."""
    return [number(value, digits) for value in counts.means()] if counts.truths.any() else [NOTHING] * 3
