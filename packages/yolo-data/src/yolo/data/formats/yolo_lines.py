"""One YOLO label file, line by line: every mistake is named, nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError
from yolo.data.formats.report import Report, excerpt, show
from yolo.data.formats.textfile import decode

#: How far, as a fraction of the image, a box may reach over the edge before it is worth a warning.
EDGE = 1e-3
_CENTRE = 1e-6
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BREAK = re.compile(r"\r\n|\r|\n")


def parse_lines(data: bytes, path: str, names: Sequence[str], report: Report) -> NDArray[np.float64]:
    """Parse a label file.

    A line is ``class cx cy w h`` (fractions of the image), or ``class x1 y1 x2 y2 x3 y3 ...``: a polygon, which becomes
    its enclosing box. Boxes over the edge are clipped, boxes without area and repeated lines dropped; all are reported.

    Returns:
        float64 ``[n, 5]``: class, cx, cy, w, h.

    Raises:
        YoloError: naming file and line, for anything else.
    """
    rows: dict[tuple[float, ...], None] = {}
    lines = _BREAK.split(decode(data, path))
    predictions = _all_have(lines, 6)
    for number, line in enumerate(lines, start=1):
        tokens = line.split()
        if not tokens:
            continue
        where = f"{show(path)} line {number}"
        if "\0" in line:
            raise YoloError(f"{where}: the file holds NUL bytes and is damaged")
        if len(tokens) == 6 and predictions:
            raise YoloError(f"{where}: six columns look like predictions with a confidence; labels have five")
        row = _row(tokens, line, where, names, report)
        if row is None:
            continue
        if row in rows:
            report.add("lines repeat a box and were dropped", where)
        rows[row] = None
    return np.array(list(rows), np.float64).reshape(-1, 5)


def _all_have(lines: list[str], columns: int) -> bool:
    counts = {len(line.split()) for line in lines if line.strip()}
    return counts == {columns}


def _row(
    tokens: list[str], line: str, where: str, names: Sequence[str], report: Report
) -> tuple[float, float, float, float, float] | None:
    polygon = len(tokens) >= 7 and len(tokens) % 2 == 1
    if "," in line:
        raise YoloError(f"{where}: commas in {excerpt(line)}; columns are separated by spaces, decimals by a point")
    if len(tokens) != 5 and not polygon:
        raise YoloError(f"{where}: {len(tokens)} columns in {excerpt(line)}; five are expected: class cx cy w h")
    label = _label(tokens[0], where, names)
    values = [_number(token, where) for token in tokens[1:]]
    if polygon:
        xs, ys = values[0::2], values[1::2]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        report.note("polygons were replaced by their enclosing boxes", where)
    cx, cy, w, h = values
    if max(map(abs, values)) > 2:
        raise YoloError(f"{where}: {excerpt(line)} is not normalised: coordinates are fractions of the image, 0 to 1")
    if w < 0 or h < 0:
        raise YoloError(f"{where}: negative width or height in {excerpt(line)}")
    if not (-_CENTRE <= cx <= 1 + _CENTRE and -_CENTRE <= cy <= 1 + _CENTRE):
        raise YoloError(f"{where}: the centre of the box lies outside the image in {excerpt(line)}")
    if w == 0 or h == 0:
        report.add("boxes have no width or height and were dropped", where)
        return None
    if max(cx + w / 2, cy + h / 2) > 1 + EDGE or min(cx - w / 2, cy - h / 2) < -EDGE:
        report.add("boxes reach over the image edge and were clipped", f"{where}: {excerpt(line)}")
    return float(label), cx, cy, w, h


def _label(token: str, where: str, names: Sequence[str]) -> int:
    if not _NUMBER.fullmatch(token):
        hint = f"; its index is {list(names).index(token)}" if token in names else ""
        raise YoloError(f"{where}: {excerpt(token)} is not a class index{hint}")
    value = float(token)
    if not np.isfinite(value) or value != int(value):
        raise YoloError(f"{where}: class {excerpt(token)} is not a whole number")
    if not 0 <= value < len(names):
        listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        hint = "; do these labels count from 1?" if value == len(names) > 1 else ""
        raise YoloError(f"{where}: class {token[:20]}, but the number of classes is {len(names)} ({listed}){hint}")
    return int(value)


def _number(token: str, where: str) -> float:
    if not _NUMBER.fullmatch(token) or not np.isfinite(float(token)):
        raise YoloError(f"{where}: {excerpt(token)} is not a finite number")
    return float(token)
