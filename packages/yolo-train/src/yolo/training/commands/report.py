"""``yolo report``: an evaluation as a page, or two of them compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from yolo.data.loaders.base import ImageLoader
    from yolo.training.report.compare import Comparison
    from yolo.training.report.stored import StoredRun


@click.command("report")
@click.argument("first", metavar="RUN_metrics.json", type=click.Path(path_type=Path))
@click.argument("second", metavar="[OTHER_metrics.json]", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The HTML file. [default: beside the first run]")
@click.option("--title", help="Heading of the page.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of the images, where they are no longer in the place that the truth names.",
)
@click.option("--no-images", is_flag=True, help="Leave the pictures of mistakes out.")
@click.option(
    "--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Draws of the comparison."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draws.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def report(
    *,
    first: Path,
    second: Path | None,
    output: Path | None,
    title: str | None,
    images: Path | None,
    no_images: bool,
    resamples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Make an HTML page of an evaluation, or of the comparison of two.

    Takes the <model>_metrics.json that 'yolo validate' writes, and reads detections and truth from the files beside it;
    no network is run. With a second file, the two runs are compared on the same resamples of the images (bootstrap).
    """
    from yolo.core.errors import UsageError
    from yolo.training.report.stored import read_run

    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}: the report is an HTML file; give it a name that ends in .html")
    run = read_run(first)
    if second is None:
        if as_json:
            raise UsageError(f"--json prints a comparison, which needs two files; {first} holds these numbers already")
        _one(run, output or first.with_name(f"{run.name}_report.html"), title, None if no_images else _loader(), images)
        return
    other = read_run(second)
    comparison = _compare(run, other, resamples, seed)
    path = output or first.with_name(f"{run.name}_vs_{other.name}_report.html")
    _two(run, other, comparison, path, title)
    for line in comparison.warnings:
        note(f"Warning: {line}")
    if as_json:
        print_json({"first": str(first), "second": str(second), **comparison.as_dict()})
        note(f"Written: {path}")
    else:
        _print(comparison)
        print(f"Written: {path}")


def _one(run: StoredRun, path: Path, title: str | None, loader: ImageLoader | None, images: Path | None) -> None:
    from yolo.training.report import write_report
    from yolo.training.report.facts import heading, in_summary
    from yolo.training.report.relocate import relocated

    table = relocated(run.table, root=run.root, folder=images) if loader else run.table
    title = title or heading(run.metrics, otherwise=run.name)
    write_report(path, run.evaluation, table, loader=loader, title=title, facts=in_summary(run.metrics))
    print(f"Written: {path}")


def _compare(run: StoredRun, other: StoredRun, resamples: int, seed: int) -> Comparison:
    from yolo.training.report.compare import compare, require_same_truth

    require_same_truth(run.table, other.table, (str(run.path), str(other.path)))
    return compare(run.evaluation, other.evaluation, resamples=resamples, seed=seed)


def _two(run: StoredRun, other: StoredRun, comparison: Comparison, path: Path, title: str | None) -> None:
    from yolo.training.report import write_comparison

    names = (str(run.path), str(other.path))
    both = f"{run.name} and {other.name}" if run.name != other.name else f"{run.name}, two runs"
    heading = title or both
    write_comparison(path, run.evaluation, other.evaluation, comparison, names=names, title=heading)


def _print(comparison: Comparison) -> None:
    from yolo.training.report.compare_sections import verdict
    from yolo.training.report.markup import number, signed

    rows = [
        (name, number(d.first, 4), number(d.second, 4), signed(d.value, 4),
         f"{signed(d.low, 4)} to {signed(d.high, 4)}", verdict(d))
        for name, d in comparison.overall.items()
    ]  # fmt: skip
    columns = ("metric", "first", "second", "difference", "95 % interval", "verdict")
    print_table(columns, rows, title=f"Second minus first, {comparison.resamples} resamples of the images")


def _loader() -> ImageLoader:
    from yolo.data.loaders.default import DefaultImageLoader

    return DefaultImageLoader()
