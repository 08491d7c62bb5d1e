"""Writing to a person or to a pipe: tables, notes, JSON and progress, plain where there is no terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

_Item = TypeVar("_Item")

_PLAIN_PROGRESS_SECONDS = 5.0


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether ``stream`` (stdout by default) shows on a terminal."""
    return bool((sys.stdout if stream is None else stream).isatty())


def console(*, stderr: bool = False) -> Console:
    """A rich console; rich is imported here, because it costs more than everything else that ``--help`` needs."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def note(text: str) -> None:
    """One line for the person, on stderr, so that piped results stay clean."""
    click.echo(text, err=True)


def print_json(value: object) -> None:
    """``value`` as JSON on stdout, and nothing else."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table on stdout: drawn on a terminal, aligned columns in a pipe (two or more blanks between columns)."""
    cells = [[str(cell) for cell in row] for row in rows]
    if is_terminal():
        _draw_table(columns, cells, title)
        return
    if title:
        click.echo(title)
    widths = [max(len(line[index]) for line in [list(columns), *cells]) for index in range(len(columns))]
    for line in [list(columns), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def track(items: Iterable[_Item], description: str, *, total: int | None = None) -> Iterator[_Item]:
    """Yield ``items`` and show how far it is, on stderr: a bar on a terminal, else a line every few seconds.

    Args:
        items: what to go through.
        description: what is being done, such as ``"Reading images"``.
        total: how many there are, when ``items`` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if is_terminal(sys.stderr):
        yield from _bar(items, description, total)
        return
    last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        if time.monotonic() - last >= _PLAIN_PROGRESS_SECONDS:
            note(f"{description}: {done}/{total}" if total else f"{description}: {done}")
            last = time.monotonic()
    note(f"{description}: {done} done")


def _draw_table(columns: Sequence[str], cells: list[list[str]], title: str | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for row in cells:
        # Text, because a cell may hold square brackets, which rich would take for markup.
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console().print(table)


_STYLES: dict[str, Any] = {
    "ok": "green",
    "warning": "yellow",
    "conflict": "red",
    "broken": "red",
    "failed": "red",
    "disabled": "dim",
}


def _bar(items: Iterable[_Item], description: str, total: int | None) -> Iterator[_Item]:
    from rich.progress import track as rich_track

    yield from rich_track(items, description=description, total=total, console=console(stderr=True), transient=True)
