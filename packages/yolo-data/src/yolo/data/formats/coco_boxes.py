"""The annotations of a COCO json: from a list of objects to arrays, each mistake named by annotation id."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.data.formats import kinds
from yolo.data.formats.coco_records import CocoImages, Entries
from yolo.data.formats.report import DataError, Place, Report, brief


@dataclass(frozen=True)
class CocoBoxes:
    """Annotations in the order of the file.

    Attributes:
        owner: int64 ``[m]`` position of the image.
        xywh: float64 ``[m, 4]`` left, top, width, height, pixels.
        labels: int64 ``[m]`` class indices.
        crowd: bool ``[m]``.
        area: float64 ``[m]`` square pixels.
        names: id of each annotation, for messages.
        positions: int64 ``[m]`` in the list of the file.
    """

    owner: NDArray[np.int64]
    xywh: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    names: list[int | str]
    positions: NDArray[np.int64]

    def select(self, keep: NDArray[np.bool_]) -> CocoBoxes:
        """Return the annotations that a mask picks."""
        return CocoBoxes(
            self.owner[keep],
            self.xywh[keep],
            self.labels[keep],
            self.crowd[keep],
            self.area[keep],
            [name for name, kept in zip(self.names, keep.tolist(), strict=True) if kept],
            self.positions[keep],
        )


class _Columns:
    """What grows while annotations are read."""

    def __init__(self) -> None:
        self.owner: list[int] = []
        self.xywh: list[list[float]] = []
        self.labels: list[int] = []
        self.crowd: list[bool] = []
        self.area: list[float] = []
        self.names: list[int | str] = []
        self.positions: list[int] = []


class _Entry:
    """The annotation that is being read: its place is put into words only when something is wrong with it."""

    def __init__(self, where: Place) -> None:
        self.where = where
        self.position = 0
        self.number: object = None

    def place(self, what: str | None = None) -> Place:
        words = f"annotation {self.number}" if what is None else what
        return self.where._replace(what=words, entry=("annotations", self.position))


def read_boxes(
    records: Entries, where: Place, images: CocoImages, category_ids: Sequence[int], report: Report
) -> CocoBoxes:
    """Check every annotation.

    Raises:
        DataError: naming file and annotation id for anything that has no clear meaning; a collecting report takes it,
            and the annotation is left out.
    """
    owners = {number: position for position, number in enumerate(images.ids)}
    classes = {number: index for index, number in enumerate(category_ids)}
    entry = _Entry(where)
    found = _Columns()
    seen: set[int | str] = set()
    for position, record in enumerate(records):
        number = record.get("id")
        entry.position, entry.number = position, number
        try:
            if isinstance(number, bool) or not isinstance(number, int | str):
                raise DataError("bad-entry", entry.place(f"annotations[{position}]"), "there is no usable id")
            if number in seen:
                raise DataError("duplicate-id", entry.place(f"annotation id {number}"), "it occurs twice")
            if images.refused and _is_refused(record.get("image_id"), images):
                continue
            box = _box(record, entry, report)
            owner = _look_up(record, "image_id", owners, entry)
            label = _look_up(record, "category_id", classes, entry)
            crowd = _crowd(record, entry)
            area = _area(record, box, entry, report)
        except DataError as error:
            report.refuse(error)
            continue
        seen.add(number)
        found.names.append(number)
        found.positions.append(position)
        found.xywh.append(box)
        found.owner.append(owner)
        found.labels.append(label)
        found.crowd.append(crowd)
        found.area.append(area)
    return CocoBoxes(
        np.array(found.owner, np.int64),
        np.array(found.xywh, np.float64).reshape(-1, 4),
        np.array(found.labels, np.int64),
        np.array(found.crowd, np.bool_),
        np.array(found.area, np.float64),
        found.names,
        np.array(found.positions, np.int64),
    )


def _box(record: Mapping[str, Any], entry: _Entry, report: Report) -> list[float]:
    if "bbox" not in record:
        points = _points(record.get("segmentation"))
        if not points:
            raise DataError("bad-entry", entry.place(), "there is no bbox")
        report.add(kinds.NO_BBOX, entry.place())
        xs, ys = points[0::2], points[1::2]
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    value = record["bbox"]
    if not isinstance(value, list) or len(value) != 4 or not all(type(item) in (int, float) for item in value):
        text = f"bbox is {brief(value)}; it must be four numbers: x, y, width, height"
        raise DataError("bad-entry", entry.place(), text)
    if not all(map(_finite, value)):
        raise DataError("bad-entry", entry.place(), f"bbox {brief(value)} is not finite")
    return value


def _points(polygons: object) -> list[float]:
    """Coordinates of all polygons, x and y in turn; empty when there is none or one is malformed."""
    points: list[float] = []
    for part in polygons if isinstance(polygons, list) else []:
        if not isinstance(part, list) or len(part) < 6 or len(part) % 2 or not all(map(_finite, part)):
            return []
        points += part
    return points


def _finite(value: Any) -> bool:
    # also false for nan, and for integers too large for a float
    return type(value) in (int, float) and -1e12 < value < 1e12


def _look_up(record: Mapping[str, Any], key: str, known: Mapping[Any, int], entry: _Entry) -> int:
    if key not in record:
        raise DataError("bad-entry", entry.place(), f"there is no {key}")
    value = record[key]
    if type(value) not in (int, str) or value not in known:
        name = key.removesuffix("_id")
        raise DataError(f"unknown-{name}", entry.place(), f"there is no {name} with the id {brief(value)}")
    return known[value]


def _is_refused(value: object, images: CocoImages) -> bool:
    return isinstance(value, int | str) and value in images.refused


def _crowd(record: Mapping[str, Any], entry: _Entry) -> bool:
    value = record.get("iscrowd", 0)
    if not isinstance(value, int) or value not in (0, 1):
        raise DataError("bad-entry", entry.place(), f"iscrowd is {brief(value)}; it must be 0 or 1")
    return bool(value)


def _area(record: Mapping[str, Any], box: Sequence[float], entry: _Entry, report: Report) -> float:
    value = record.get("area")
    if value is not None:
        if _finite(value) and value >= 0:
            return float(value)
        report.add(kinds.BAD_AREA, entry.place())
    return math.fabs(box[2] * box[3])
