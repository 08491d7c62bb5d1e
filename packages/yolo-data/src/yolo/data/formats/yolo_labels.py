"""Many YOLO label files at once: plain ones quickly, the others line by line."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError
from yolo.data.formats import kinds
from yolo.data.formats.report import DataError, Place, Report, show
from yolo.data.formats.textfile import read_bytes
from yolo.data.formats.yolo_lines import EDGE, parse_lines

#: Bytes of the largest label file that is read.
LARGEST = 64 << 20
_CHUNK = 256
_PLAIN = b"0123456789+-.eE \t\r\n"
_EMPTY: NDArray[np.float64] = np.zeros((0, 5))

Rows = NDArray[np.float64]


def read_labels(
    paths: Sequence[str | None], names: Sequence[str], report: Report
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read label files; None stands for an image without one.

    Returns:
        int64 ``[n]`` number of boxes of each image, and float64 ``[m, 5]``: class, cx, cy, w, h as fractions.

    Raises:
        YoloError: naming the first file and line that cannot be used.
    """
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(4) as pool:
        parsed = [rows for part in pool.map(lambda chunk: [_quick(path) for path in chunk], chunks) for rows in part]
    odd = {index for index, rows in enumerate(parsed) if rows is None}
    counts = np.array([0 if rows is None else len(rows) for rows in parsed], np.int64)
    table = np.concatenate([_EMPTY, *(rows for rows in parsed if rows is not None and len(rows))])
    _refuse_corners(table, report)
    owner = np.repeat(np.arange(len(parsed)), counts)
    odd.update(owner[_unusual(table, len(names))].tolist())
    if not odd:
        return counts, table
    for index in sorted(odd):
        path = paths[index]
        assert path is not None
        parsed[index] = rows = _careful(path, names, report)
        counts[index] = len(rows)
    return counts, np.concatenate([_EMPTY, *(rows for rows in parsed if rows is not None and len(rows))])


def _quick(path: str | None) -> Rows | None:
    """The rows of a plain file, None when it needs the careful parser."""
    if path is None:
        return _EMPTY
    try:
        data = read_bytes(path, limit=LARGEST)
    except DataError:  # the careful parser says it in its turn
        return None
    if data.translate(None, _PLAIN):
        return None
    lines = [tokens for line in data.splitlines() if (tokens := line.split())]
    if any(len(tokens) != 5 for tokens in lines) or len({tuple(tokens) for tokens in lines}) != len(lines):
        return None
    try:
        return np.array([float(token) for tokens in lines for token in tokens]).reshape(-1, 5)
    except ValueError:
        return None


def _careful(path: str, names: Sequence[str], report: Report) -> Rows:
    try:
        return parse_lines(read_bytes(path, limit=LARGEST), path, names, report)
    except DataError as error:  # of the file as a whole
        report.refuse(error)
        return _EMPTY


def _unusual(table: Rows, classes: int) -> NDArray[np.bool_]:
    """Rows that the careful parser must look at: it repairs, reports or refuses them."""
    label, centre, size = table[:, 0], table[:, 1:3], table[:, 3:5]
    with np.errstate(invalid="ignore"):
        good = (label >= 0) & (label < classes) & (label == np.floor(label))
        good &= (size > 0).all(1) & (centre >= 0).all(1) & (centre <= 1).all(1)
        good &= (centre + size / 2 <= 1 + EDGE).all(1) & (centre - size / 2 >= -EDGE).all(1)
    unusual: NDArray[np.bool_] = ~good
    return unusual


def _refuse_corners(table: Rows, report: Report) -> None:
    """Refuse a data set whose numbers are x1 y1 x2 y2: read as centre and size, most boxes leave the image."""
    if len(table) < 10:
        return
    first, second = table[:, 1:3], table[:, 3:5]
    over = ((first + second / 2 > 1 + EDGE) | (first - second / 2 < -EDGE)).any(1)
    corners = (second > first).all(1) & (first >= 0).all(1) & (second <= 1 + EDGE).all(1)
    if over.mean() > 0.5 and corners.all():
        raise YoloError(
            f"{report.source}: the labels look like corners (x1 y1 x2 y2): {over.mean():.0%} of the boxes leave their "
            f"image when read as centre and size; convert them to cx cy w h"
        )


def describe_missing(
    images: Sequence[str], paths: Sequence[str | None], expected: Sequence[str], report: Report
) -> None:
    """Report images without a label file, or refuse when there is not a single one.

    Raises:
        YoloError: several images and no label file at all: the folder is wrong.
    """
    missing = [index for index, path in enumerate(paths) if path is None]
    if len(missing) == len(paths) > 1:
        raise YoloError(
            f"{report.source}: none of the {len(paths)} images has a label file; the first was looked for at "
            f"{show(expected[0])}; set the labels folder of the split (data.train_labels, data.val_labels, ...)"
        )
    report.add_each(kinds.MISSING_LABEL, missing, lambda i: (Place(images[i]), f"looked for at {show(expected[i])}"))
