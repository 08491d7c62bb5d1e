"""Findings about a data set: one warning a kind, with a count and the first place."""

from __future__ import annotations

import logging
import os

_log = logging.getLogger("yolo.data")


def show(path: str | os.PathLike[str]) -> str:
    """A path as it can be printed anywhere: unchanged when it is plain text, else quoted with escapes."""
    text = os.fspath(path)
    plain = text.isprintable() and text == text.strip() and not any("\ud800" <= c <= "\udfff" for c in text)
    return text if plain else ascii(text)


def excerpt(text: str, limit: int = 60) -> str:
    """A piece of a file for an error message, quoted and never long."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


def brief(value: object, limit: int = 60) -> str:
    """A value of a json file for an error message, never long."""
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "…"


class Report:
    """Collects repairs while a data set is read, so that a thousand of a kind make one line."""

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self.source = show(source)
        self.findings: dict[str, tuple[int, str]] = {}
        self.notes: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, where: str, count: int = 1) -> None:
        """Count a finding: what it is and what was done ("boxes were clipped"), and where."""
        _count(self.findings, kind, where, count)

    def note(self, kind: str, where: str, count: int = 1) -> None:
        """Count something that is in order but worth knowing."""
        _count(self.notes, kind, where, count)

    def warn(self) -> None:
        """Log every kind once: findings as warnings, notes as information."""
        for level, kinds in ((logging.WARNING, self.findings), (logging.INFO, self.notes)):
            for kind, (count, first) in kinds.items():
                _log.log(level, "%s: %s: %d (first: %s)", self.source, kind, count, first)


def _count(kinds: dict[str, tuple[int, str]], kind: str, where: str, count: int) -> None:
    seen, first = kinds.get(kind, (0, where))
    kinds[kind] = (seen + count, first)
