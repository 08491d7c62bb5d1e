"""The two reports: of one evaluation, and of two that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from yolo.data.labels import LabelTable
from yolo.data.loaders.base import ImageLoader
from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.evaluator import Evaluation
from yolo.training.report import gallery, sections
from yolo.training.report.compare import Comparison
from yolo.training.report.compare_sections import comparison_sections, mean_lines
from yolo.training.report.findings import MOST_PER_IMAGE, Finding, false_positives, misses
from yolo.training.report.markup import Html, join, tag
from yolo.training.report.page import warning_box, write_page
from yolo.training.report.payload import comparison_data, report_data
from yolo.training.report.pictures import calibration_section, confusion_section, curve_section
from yolo.training.report.sections import Section

_FEW = f"at most {gallery.MOST}, and {MOST_PER_IMAGE} of a picture"


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    table: LabelTable,
    *,
    loader: ImageLoader | None,
    title: str,
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Write an evaluation as one HTML file, which needs no other file and no network.

    Args:
        path: of the file to write.
        evaluation: with its analysis.
        table: of the evaluated images; its rows are the images of the analysis.
        loader: of the pictures for the gallery; None leaves it out, and so does a confidential one.
        title: heading, such as the name of the model and of the data.
        facts: more lines for the summary, by their name.

    Returns:
        The path.
    """
    analysis = _analysis(evaluation)
    if len(table) != analysis.truth.images:
        raise ValueError(f"a table of {len(table)} images for an evaluation of {analysis.truth.images}")
    parts = [
        sections.summary(evaluation, analysis, facts or {}),
        sections.classes(evaluation, analysis),
        curve_section(analysis),
        sections.thresholds(evaluation, analysis),
        sections.errors(analysis),
        confusion_section(analysis),
        sections.sizes(evaluation, analysis),
        calibration_section(analysis),
        *_galleries(analysis, table, loader),
    ]
    return write_page(path, title, str(evaluation.protocol), parts, report_data(evaluation, analysis))


def write_comparison(
    path: str | Path,
    first: Evaluation,
    second: Evaluation,
    comparison: Comparison,
    *,
    names: tuple[str, str],
    title: str,
) -> Path:
    """Write the comparison of two runs as one HTML file.

    Args:
        path: of the file to write.
        first: evaluation of the first run, with its analysis.
        second: of the second.
        comparison: of the two.
        names: of the runs.
        title: heading.

    Returns:
        The path.
    """
    analyses = _analysis(first), _analysis(second)
    parts = comparison_sections((first, second), analyses, comparison, names)
    lead = f"First: {names[0]}. Second: {names[1]}. {first.images} images, the same for both."
    data = comparison_data(mean_lines(analyses, names))
    return write_page(path, title, lead, parts, data, notes=warning_box(comparison.warnings))


def _galleries(analysis: Analysis, table: LabelTable, loader: ImageLoader | None) -> list[Section]:
    if loader is None or loader.confidential:
        text = "No pictures were given." if loader is None else "The images are encrypted: their pictures are left out."
        return [Section("gallery", "Pictures of mistakes", tag("p", text))]
    wrong, missed = false_positives(analysis, gallery.MOST), misses(analysis, gallery.MOST)
    return [
        Section(
            "false-positives",
            "Surest false positives",
            _pictures(wrong, analysis, table, loader, f"There is no false positive above {analysis.confidence:g}."),
            join([f"The wrong detections with the highest scores above {analysis.confidence:g}, {_FEW}. ", _key()]),
        ),
        Section(
            "misses",
            "Plainest misses",
            _pictures(missed, analysis, table, loader, "No object is missed."),
            join([f"Objects without a detection above {analysis.confidence:g}: first those that nothing finds at any ",
                  f"score, the largest in front; {_FEW}. ", _key()]),
        ),
    ]  # fmt: skip


def _key() -> Html:
    """What the lines in the pictures mean."""
    return join([
        tag("span", "Truth", class_="swatch truth"), " is drawn solid, ",
        tag("span", "predictions", class_="swatch prediction"), " dashed; the strong box is what it is about.",
    ])  # fmt: skip


def _pictures(findings: list[Finding], analysis: Analysis, table: LabelTable, loader: ImageLoader, none: str) -> Html:
    if not findings:
        return tag("p", none)
    shown = gallery.draw(findings, analysis, table, loader)
    lost = f"{shown.unread} could not be shown, as their pictures could not be read." if shown.unread else ""
    return join([tag("div", *shown.figures, class_="gallery"), tag("p", lost) if lost else ""])


def _analysis(evaluation: Evaluation) -> Analysis:
    if evaluation.analysis is None:
        raise ValueError("only the process that holds the detections can report on them")
    return evaluation.analysis
