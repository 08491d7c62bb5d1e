"""Boxes that are allowed and yet look like mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from yolo.data.formats.report import Finding, Place, show
from yolo.data.labels import LabelTable

#: Overlap (intersection over union) from which two boxes are nearly the same.
NEARLY = 0.9
_MOST = 1000  # boxes of one image that are compared with each other
_TINY = 1.0  # pixels of the file


def odd_boxes(table: LabelTable, locate: Callable[[str, int], Place]) -> list[Finding]:
    """Find tiny boxes, nearly equal boxes of one class, and one box with two classes. All are information."""
    findings: list[Finding] = []
    wh = table.boxes[:, 2:] - table.boxes[:, :2]
    tiny = np.flatnonzero((wh < _TINY).any(axis=1) & ~table.crowd)
    owners = np.searchsorted(table.offsets, tiny, side="right") - 1
    for box, image in zip(tiny.tolist(), owners.tolist(), strict=True):
        text = f"the box is {wh[box, 0]:.2f} x {wh[box, 1]:.2f} pixels"
        findings.append(_at(locate, table.path(image), box - int(table.offsets[image]), "tiny-box", text))
    for image in range(len(table)):
        start, end = int(table.offsets[image]), int(table.offsets[image + 1])
        if not 2 <= end - start <= _MOST:
            continue
        path = table.path(image)
        for one, other in _alike(table.boxes[start:end], table.crowd[start:end]):
            labels = table.labels[start + one], table.labels[start + other]
            if labels[0] == labels[1] and (table.boxes[start + one] == table.boxes[start + other]).all():
                continue  # told as a repeated box
            where = locate(path, one)
            there = f"line {where.line}" if where.line else where.what or f"box {one}"
            if labels[0] == labels[1]:
                findings.append(_at(locate, path, other, "nearly-same-box", f"the box is nearly that of {there}"))
            else:
                names = " and ".join(repr(table.class_names[label]) for label in labels)
                findings.append(_at(locate, path, other, "two-classes", f"the box is nearly that of {there}: {names}"))
    return findings


def odd_sizes(table: LabelTable) -> list[Finding]:
    """Find pictures with a side of a few pixels."""
    small = np.flatnonzero(table.sizes.min(axis=1) < 8).tolist()
    return [
        Finding("tiny-image", "info", table.path(i), None, f"the picture is {table.size(i)[0]}x{table.size(i)[1]}")
        for i in small
    ]


def _alike(boxes: NDArray[np.float32], crowd: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Pairs of boxes that overlap nearly wholly; each later box once."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        overlap = shared / (area[:, None] + area[None, :] - shared)
    overlap[crowd] = overlap[:, crowd] = 0
    told = set()
    for one, other in zip(*np.nonzero(np.triu(overlap >= NEARLY, 1)), strict=True):
        if other not in told:
            told.add(other)
            yield int(one), int(other)


def _at(locate: Callable[[str, int], Place], path: str, box: int, kind: str, text: str) -> Finding:
    place = locate(path, box)
    prefix = f"{place.what}: " if place.what else ""
    suffix = "" if place.file != path else f" (box {box + 1} of {show(path)})"
    return Finding(kind, "info", place.file, place.line, f"{prefix}{text}{suffix}", place.entry)
