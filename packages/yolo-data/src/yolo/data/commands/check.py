"""``yolo data check``: what is in a data set and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from yolo.core.errors import UsageError


@click.command("check", context_settings={"ignore_unknown_options": True})
@click.option("--config", "-c", "configs", multiple=True, help="Configuration file or packaged name; later ones win.")
@click.option("--split", "splits", multiple=True, help="Check this split only: train, val or test; may be repeated.")
@click.option("--fast", is_flag=True, help="Read no pictures beyond their headers, as before every training.")
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON.")
@click.option("--all", "everything", is_flag=True, help="Show every finding; not set: the first ten of each kind.")
@click.option(
    "--fix",
    "target",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write a repaired copy into this new folder. The data set itself is never changed.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[--data.KEY VALUE]...")
@click.pass_context
def check(
    ctx: click.Context,
    configs: tuple[str, ...],
    splits: tuple[str, ...],
    fast: bool,
    as_json: bool,
    everything: bool,
    target: Path | None,
    options: tuple[str, ...],
) -> None:
    """Find what is wrong in a data set.

    Shows what the splits hold, and every finding with file and line. An error is what training refuses, a warning what
    it repairs or what deserves a look. The exit code is 1 when there is an error.

    Where the data is stands in the `data:` section of a configuration, or in options such as --data.root cells
    --data.format yolo, which win.
    """
    from yolo.cli.output import note, print_json, track
    from yolo.data.check import check_dataset, copy_settings, inspect_dataset, write_repaired
    from yolo.data.check.text import print_report
    from yolo.data.config_files import data_settings
    from yolo.data.wording import counted

    if target is not None and fast:
        raise UsageError("--fix needs to read the pictures: leave --fast out")
    for option in options:
        if option.startswith("-") and not option.startswith("--data."):
            raise UsageError(f"{option}: there is no such option; see 'yolo data check --help'")
    config = data_settings(configs, options)

    def show_progress(items: Iterable[Any], text: str, total: int) -> Iterable[Any]:
        return track(items, text, total=total)

    inspection = inspect_dataset(config, splits, images=not fast, track=show_progress)
    report = inspection.report
    if as_json:
        print_json(report.as_dict())
    else:
        print_report(report, limit=None if everything else 10)
    if target is None:
        ctx.exit(report.exit_code)
    done = write_repaired(inspection, target, track=show_progress)
    kept = f"{counted(done.images, 'image')}, {counted(done.boxes, 'box', 'boxes')}"
    note(f"Written: {target}: {kept}; images left out: {done.left_out}.")
    again = check_dataset(copy_settings(config, target), tuple(report.splits), images=False)
    for finding in [found for found in again.findings if found.severity != "info"]:
        note(f"Still there: {finding.file}: {finding.message}")
    ctx.exit(again.exit_code)
