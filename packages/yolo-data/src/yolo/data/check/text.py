"""A report as a person reads it."""

from __future__ import annotations

from itertools import groupby

import click

from yolo.cli.output import print_table
from yolo.data.check.result import DatasetReport, SplitFacts
from yolo.data.formats.report import Finding, show
from yolo.data.wording import counted

_CLASSES = 30
_BAR = 20


def print_report(report: DatasetReport, *, limit: int | None) -> None:
    """Write facts and findings to stdout.

    Args:
        report: to write.
        limit: most findings of a kind; None for all.
    """
    click.echo(f"{report.root} ({report.format})\n")
    if report.splits:
        print_table(["", *report.splits], _rows(report.splits))
        click.echo()
        print_table(["class", *report.splits, ""], _histogram(report.splits, limit))
        click.echo()
    for severity in ("error", "warning", "info"):
        found = [finding for finding in report.findings if finding.severity == severity]
        for kind, group in groupby(found, key=lambda finding: finding.kind):
            _print_kind(severity, kind, list(group), limit)
    counts = report.counts
    said = [counted(counts[key], noun) for key, noun in (("error",) * 2, ("warning",) * 2, ("info", "remark"))]
    checked = "" if report.pictures_read else " (headers only: pictures were not decoded nor compared)"
    click.echo(f"{', '.join(said)}{checked}")


def _rows(splits: dict[str, SplitFacts]) -> list[list[object]]:
    def percentiles(values: tuple[float, float, float]) -> str:
        return " / ".join(f"{value:g}" for value in values)

    facts = list(splits.values())
    return [
        ["images", *(f.images for f in facts)],
        ["without boxes", *(f.background for f in facts)],
        ["boxes", *(f.boxes for f in facts)],
        ["crowd regions", *(f.crowds for f in facts)],
        ["boxes an image, mean / most", *(f"{f.boxes / max(f.images, 1):.1f} / {f.most_boxes}" for f in facts)],
        ["small / medium / large", *(" / ".join(str(n) for n in f.sizes.values()) for f in facts)],
        ["box width, 5 / 50 / 95 %", *(percentiles(f.box_width) for f in facts)],
        ["box height, 5 / 50 / 95 %", *(percentiles(f.box_height) for f in facts)],
        ["image width, least / median / most", *(percentiles(f.image_width) for f in facts)],
        ["image height, least / median / most", *(percentiles(f.image_height) for f in facts)],
    ]


def _histogram(splits: dict[str, SplitFacts], limit: int | None) -> list[list[object]]:
    """Boxes by class, the classes of the first split with the most boxes first."""
    first = next(iter(splits.values()))
    counts = [{name: boxes for name, boxes, _ in facts.classes} for facts in splits.values()]
    names = list(dict.fromkeys(name for facts in splits.values() for name, _, _ in facts.classes))
    names.sort(key=lambda name: -counts[0].get(name, 0))
    most = max((boxes for _, boxes, _ in first.classes), default=0) or 1
    rows: list[list[object]] = [
        [name, *(count.get(name, 0) for count in counts), "█" * round(_BAR * counts[0].get(name, 0) / most)]
        for name in names
    ]
    if limit is None or len(rows) <= _CLASSES:
        return rows
    more = len(rows) - _CLASSES
    return [*rows[:_CLASSES], [f"and {more} more (--all)", *("" for _ in splits), ""]]


def _print_kind(severity: str, kind: str, findings: list[Finding], limit: int | None) -> None:
    colour = {"error": "red", "warning": "yellow"}.get(severity)
    click.secho(f"{severity} {kind}: {len(findings)}", fg=colour, bold=severity == "error")
    for finding in findings if limit is None else findings[:limit]:
        place = show(finding.file) + (f":{finding.line}" if finding.line else "")
        text = finding.message if finding.message.isprintable() else show(finding.message)
        click.echo(f"  {place}: {text}")
    if limit is not None and len(findings) > limit:
        click.echo(f"  and {len(findings) - limit} more (--all shows them)")
    click.echo()
