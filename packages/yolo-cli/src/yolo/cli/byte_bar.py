"""Progress of a download on stderr: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .output import console, is_terminal, note

#: Called with the bytes that are there and the bytes there will be (None: unknown).
Report = Callable[[int, int | None], None]

_PLAIN_SECONDS = 5.0


@contextmanager
def byte_bar(description: str) -> Iterator[Report]:
    """Show how far a download is, as its callback says."""
    if is_terminal(sys.stderr):
        with _drawn(description) as report:
            yield report
        return
    last = time.monotonic()

    def tell(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_SECONDS:
            note(f"{description}: {megabytes(done)} of {megabytes(total) if total else 'an unknown size'}")
            last = time.monotonic()

    yield tell


def megabytes(count: int) -> str:
    """A size for people, in decimal megabytes."""
    return f"{count / 1e6:.1f} MB"


@contextmanager
def _drawn(description: str) -> Iterator[Report]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
