"""One YOLO label file, line by line: every mistake is named, nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yolo.data.formats import kinds
from yolo.data.formats.report import DataError, Place, Report, excerpt
from yolo.data.formats.textfile import decode

#: How far, as a fraction of the image, a box may reach over the edge before it is worth a warning.
EDGE = 1e-3
_CENTRE = 1e-6
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BREAK = re.compile(r"\r\n|\r|\n")

#: Class, cx, cy, w, h.
Row = tuple[float, float, float, float, float]


def parse_lines(data: bytes, path: str, names: Sequence[str], report: Report) -> NDArray[np.float64]:
    """Parse a label file.

    A line is ``class cx cy w h`` (fractions of the image), or ``class x1 y1 x2 y2 x3 y3 ...``: a polygon, which becomes
    its enclosing box. Boxes over the edge are clipped, boxes without area and repeated lines dropped; all are reported.

    Returns:
        float64 ``[n, 5]``: class, cx, cy, w, h.

    Raises:
        DataError: naming file and line, for anything else; a collecting report takes it, and the line is left out.
    """
    rows = [row for _, row in numbered_rows(data, path, names, report)]
    return np.array(rows, np.float64).reshape(-1, 5)


def numbered_rows(data: bytes, path: str, names: Sequence[str], report: Report) -> list[tuple[int, Row]]:
    """As :func:`parse_lines`, each row with the number of its line."""
    rows: dict[Row, int] = {}
    lines = split_lines(data, path)
    predictions = _all_have(lines, 6)
    for number, line in enumerate(lines, start=1):
        tokens = line.split()
        if not tokens:
            continue
        place = Place(path, number)
        try:
            if "\0" in line:
                raise DataError("damaged-file", place, "the file holds NUL bytes and is damaged")
            if len(tokens) == 6 and predictions:
                text = "six columns look like predictions with a confidence; labels have five"
                raise DataError("malformed-line", place, text)
            row = _row(tokens, line, place, names, report)
        except DataError as error:
            report.refuse(error)
            continue
        if row is None:
            continue
        if row in rows:
            report.add(kinds.REPEATED_LINE, place)
        else:
            rows[row] = number
    return [(number, row) for row, number in rows.items()]


def split_lines(data: bytes, path: str) -> list[str]:
    """The lines of a label file, whatever ends them.

    Raises:
        DataError: it is not UTF-8 text.
    """
    return _BREAK.split(decode(data, path))


def _all_have(lines: list[str], columns: int) -> bool:
    counts = {len(line.split()) for line in lines if line.strip()}
    return counts == {columns}


def _row(tokens: list[str], line: str, place: Place, names: Sequence[str], report: Report) -> Row | None:
    polygon = len(tokens) >= 7 and len(tokens) % 2 == 1
    if "," in line:
        text = f"commas in {excerpt(line)}; columns are separated by spaces, decimals by a point"
        raise DataError("malformed-line", place, text)
    if len(tokens) != 5 and not polygon:
        text = f"{len(tokens)} columns in {excerpt(line)}; five are expected: class cx cy w h"
        raise DataError("malformed-line", place, text)
    label = _label(tokens[0], place, names)
    values = [_number(token, place) for token in tokens[1:]]
    if polygon:
        xs, ys = values[0::2], values[1::2]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        report.note(kinds.POLYGON, place)
    cx, cy, w, h = values
    if max(map(abs, values)) > 2:
        text = f"{excerpt(line)} is not normalised: coordinates are fractions of the image, 0 to 1"
        raise DataError("coordinate-range", place, text)
    if w < 0 or h < 0:
        raise DataError("negative-size", place, f"negative width or height in {excerpt(line)}")
    if not (-_CENTRE <= cx <= 1 + _CENTRE and -_CENTRE <= cy <= 1 + _CENTRE):
        text = f"the centre of the box lies outside the image in {excerpt(line)}"
        raise DataError("coordinate-range", place, text)
    if w == 0 or h == 0:
        report.add(kinds.EMPTY_BOX, place)
        return None
    if max(cx + w / 2, cy + h / 2) > 1 + EDGE or min(cx - w / 2, cy - h / 2) < -EDGE:
        report.add(kinds.OVER_EDGE, place, excerpt(line))
    return float(label), cx, cy, w, h


def _label(token: str, place: Place, names: Sequence[str]) -> int:
    if not _NUMBER.fullmatch(token):
        hint = f"; its index is {list(names).index(token)}" if token in names else ""
        raise DataError("malformed-line", place, f"{excerpt(token)} is not a class index{hint}")
    value = float(token)
    if not np.isfinite(value) or value != int(value):
        raise DataError("class-range", place, f"class {excerpt(token)} is not a whole number")
    if not 0 <= value < len(names):
        listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        hint = "; do these labels count from 1?" if value == len(names) > 1 else ""
        text = f"class {token[:20]}, but the number of classes is {len(names)} ({listed}){hint}"
        raise DataError("class-range", place, text)
    return int(value)


def _number(token: str, place: Place) -> float:
    if not _NUMBER.fullmatch(token) or not np.isfinite(float(token)):
        raise DataError("malformed-line", place, f"{excerpt(token)} is not a finite number")
    return float(token)
