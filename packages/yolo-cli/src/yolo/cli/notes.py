"""What the library logs and warns about, shown to the person who runs a command."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from yolo.cli.output import note
from yolo.cli.plain_warnings import warnings_as_notes


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


@contextmanager
def shown_notes() -> Iterator[None]:
    """Show what ``yolo.*`` logs, and what Python warns about, as plain lines on stderr."""
    log = logging.getLogger("yolo")
    handler, level = _Notes(), log.level
    if not log.handlers:  # else somebody shows them already
        log.addHandler(handler)
    log.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        with warnings_as_notes():
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
