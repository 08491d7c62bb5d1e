"""Findings about a data set: in training one warning a kind, with a count and the first place; in a check every one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, NamedTuple

from yolo.core.errors import YoloError
from yolo.data.formats.kinds import Kind

_log = logging.getLogger("yolo.data")

Severity = Literal["error", "warning", "info"]


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


class Place(NamedTuple):
    """Where something was found.

    Attributes:
        file: path as it is.
        line: of the file, from 1.
        what: the entry, in words: ``annotation 7``.
        entry: list and position in a json, from which a check finds the line.
        column: of the line, from 1.
    """

    file: str
    line: int | None = None
    what: str = ""
    entry: tuple[str, int] | None = None
    column: int | None = None

    def __str__(self) -> str:
        line = "" if self.line is None else f" line {self.line}"
        line += "" if self.column is None else f" column {self.column}"
        return f"{show(self.file)}{line}{': ' if self.what else ''}{self.what}"


class DataError(YoloError):
    """Something in a data set that cannot be used.

    Args:
        kind: name of the kind of mistake, see ``docs/how-to/datasets.md``.
        place: where.
        text: what is wrong and what to do.
    """

    def __init__(self, kind: str, place: Place, text: str) -> None:
        super().__init__(f"{place}: {text}")
        self.kind = kind
        self.place = place
        self.text = text

    def __reduce__(self) -> tuple[type[DataError], tuple[str, Place, str]]:
        return DataError, (self.kind, self.place, self.text)


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        kind: name of the kind.
        severity: ``error``: training refuses it, or would fail; ``warning``: training repairs it, or it is worth a
            look; ``info``: good to know.
        file: path of the file.
        line: of the file, from 1; None where the file as a whole is meant.
        message: what was found there.
    """

    kind: str
    severity: Severity
    file: str
    line: int | None
    message: str
    entry: tuple[str, int] | None = None


class Told(NamedTuple):
    """A line of the log about a data set.

    Attributes:
        level: of :mod:`logging`.
        source: of the data, or what stands for it.
        text: what was found, how often, and where first.
    """

    level: int
    source: str
    text: str


_record: ContextVar[list[Told] | None] = ContextVar("record", default=None)


@contextmanager
def recorded() -> Iterator[list[Told]]:
    """Give the list of everything that reports tell within the ``with`` block."""
    lines: list[Told] = []
    token = _record.set(lines)
    try:
        yield lines
    finally:
        _record.reset(token)


def tell(lines: Iterable[Told]) -> None:
    """Log lines, and record them where somebody asked for that."""
    for line in lines:
        _log.log(line.level, "%s: %s", line.source, line.text)
        record = _record.get()
        if record is not None:
            record.append(line)


class Report:
    """Collects repairs while a data set is read, so that a thousand of a kind make one line.

    Args:
        source: of the data, for the warnings.
        collect: keep every finding in :attr:`found`, mistakes that cannot be repaired included, instead of raising at
            the first of those.
    """

    def __init__(self, source: str | os.PathLike[str], *, collect: bool = False) -> None:
        self.source = show(source)
        self.collect = collect
        self.found: list[Finding] = []
        #: Every image that the split names, readable or not; the formats fill it for a check.
        self.images: list[str] = []
        #: The place of a box, from the image's path and the box's position in the table; likewise.
        self.locate: Callable[[str, int], Place] | None = None
        self._kinds: dict[tuple[int, Kind], tuple[int, str]] = {}

    def add(self, kind: Kind, place: Place, detail: str = "", *, count: int = 1) -> None:
        """Count something that was repaired."""
        self._count(logging.WARNING, kind, place, detail, count)

    def add_each(self, kind: Kind, items: Iterable[int], where: Callable[[int], tuple[Place, str]]) -> None:
        """Count several repairs of a kind; ``where`` gives place and detail of an item."""
        found = list(items)
        for item in found if self.collect else found[:1]:
            self.add(kind, *where(item), count=1 if self.collect else len(found))

    def note(self, kind: Kind, place: Place, detail: str = "", *, count: int = 1) -> None:
        """Count something that is in order but worth knowing."""
        self._count(logging.INFO, kind, place, detail, count)

    def refuse(self, error: DataError) -> None:
        """Raise ``error``, or keep it and let the reader go on without the line, entry or image."""
        if not self.collect:
            raise error
        place = error.place
        text = f"{place.what}: {error.text}" if place.what else error.text
        self.found.append(Finding(error.kind, "error", place.file, place.line, text, place.entry))

    def warn(self) -> None:
        """Log every kind once: findings as warnings, notes as information."""
        for (level, kind), (count, first) in sorted(self._kinds.items(), key=lambda item: -item[0][0]):
            tell([Told(level, self.source, f"{kind.many}: {count} (first: {first})")])

    def _count(self, level: int, kind: Kind, place: Place, detail: str, count: int) -> None:
        if self.collect:
            severity: Severity = "warning" if level == logging.WARNING else "info"
            text = ": ".join(part for part in (place.what, kind.one, detail) if part)
            self.found.append(Finding(kind.name, severity, place.file, place.line, text, place.entry))
            return
        known = self._kinds.get((level, kind))
        if known is None:
            self._kinds[level, kind] = count, f"{place}{': ' if detail else ''}{detail}"
        else:
            self._kinds[level, kind] = known[0] + count, known[1]
