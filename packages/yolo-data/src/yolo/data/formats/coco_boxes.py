"""The annotations of a COCO json: from a list of objects to arrays, each mistake named by annotation id."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError
from yolo.data.formats.coco_records import Entries
from yolo.data.formats.report import Report, brief

#: How many pixels a box may reach over the edge before it is clipped: less is rounding, and stays as it is.
EDGE = 1.0


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
    """

    owner: NDArray[np.int64]
    xywh: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    names: list[int | str]


def read_boxes(
    records: Entries, where: str, image_ids: Sequence[int | str], category_ids: Sequence[int], report: Report
) -> CocoBoxes:
    """Check every annotation.

    Raises:
        YoloError: naming file and annotation id for anything that has no clear meaning.
    """
    images = {number: position for position, number in enumerate(image_ids)}
    classes = {number: index for index, number in enumerate(category_ids)}
    seen: set[int | str] = set()
    owner, xywh, labels, crowd, area, names = [], [], [], [], [], []
    for position, record in enumerate(records):
        number = record.get("id")
        if isinstance(number, bool) or not isinstance(number, int | str):
            raise YoloError(f"{where}: annotations[{position}] has no usable id")
        if number in seen:
            raise YoloError(f"{where}: annotation id {number} occurs twice")
        seen.add(number)
        place = f"{where}: annotation {number}"
        box = _box(record, place, report)
        names.append(number)
        owner.append(_look_up(record, "image_id", images, place))
        labels.append(_look_up(record, "category_id", classes, place))
        xywh.append(box)
        crowd.append(_crowd(record, place))
        area.append(_area(record, box, place, report))
    return CocoBoxes(
        np.array(owner, np.int64),
        np.array(xywh, np.float64).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(crowd, np.bool_),
        np.array(area, np.float64),
        names,
    )


def repair_boxes(boxes: CocoBoxes, sizes: NDArray[np.int32], where: str, report: Report) -> CocoBoxes:
    """Clip what reaches over the image, drop what has no area or lies outside, refuse what is another convention.

    Raises:
        YoloError: negative sizes, normalised boxes, or corners instead of width and height.
    """
    x, y, w, h = boxes.xywh.T
    width, height = sizes[boxes.owner].astype(np.float64).T
    for index in np.flatnonzero((w < 0) | (h < 0))[:1]:
        raise YoloError(
            f"{where}: annotation {boxes.names[index]} has a negative width or height: {_text(boxes, index)}"
        )
    over = (x + w > width + EDGE) | (y + h > height + EDGE) | (x < -EDGE) | (y < -EDGE)
    _refuse_other_conventions(boxes, over, width, height, where)

    outside = (x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)
    empty = (w == 0) | (h == 0)
    drop = outside | empty
    _count(report, "boxes have no width or height and were dropped", empty, boxes, where)
    _count(report, "boxes lie outside their image and were dropped", outside & ~empty, boxes, where)
    clip = over & ~drop
    _count(report, "boxes reach over the image edge and were clipped", clip, boxes, where)
    low = np.where(clip[:, None], np.clip(boxes.xywh[:, :2], 0, None), boxes.xywh[:, :2])
    high = boxes.xywh[:, :2] + boxes.xywh[:, 2:]
    high = np.where(clip[:, None], np.minimum(high, np.stack([width, height], 1)), high)
    keep = ~drop
    return CocoBoxes(
        boxes.owner[keep],
        np.concatenate([low, high - low], 1)[keep],
        boxes.labels[keep],
        boxes.crowd[keep],
        boxes.area[keep],
        [name for name, kept in zip(boxes.names, keep.tolist(), strict=True) if kept],
    )


def _refuse_other_conventions(
    boxes: CocoBoxes, over: NDArray[np.bool_], width: NDArray[np.float64], height: NDArray[np.float64], where: str
) -> None:
    x, y, w, h = boxes.xywh.T
    if len(x) >= 3 and (np.abs(boxes.xywh) <= 1).all():
        raise YoloError(f"{where}: every bbox is within 0 to 1: it must be x, y, width, height in pixels")
    corners = (w > x) & (h > y) & (w <= width + EDGE) & (h <= height + EDGE)
    if len(x) >= 3 and over.mean() > 0.5 and corners.all():
        raise YoloError(
            f"{where}: the boxes look like corners (x1, y1, x2, y2): {over.mean():.0%} leave their image when read as "
            f"x, y, width, height, first annotation {boxes.names[int(np.argmax(over))]}"
        )


def _box(record: Mapping[str, Any], place: str, report: Report) -> list[float]:
    if "bbox" not in record:
        points = _points(record.get("segmentation"))
        if not points:
            raise YoloError(f"{place} has no bbox")
        report.add("annotations without bbox were given the enclosing box of their polygon", place)
        xs, ys = points[0::2], points[1::2]
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    value = record["bbox"]
    if not isinstance(value, list) or len(value) != 4 or not all(type(item) in (int, float) for item in value):
        raise YoloError(f"{place}: bbox is {brief(value)}; it must be four numbers: x, y, width, height")
    if not all(map(_finite, value)):
        raise YoloError(f"{place}: bbox {brief(value)} is not finite")
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


def _look_up(record: Mapping[str, Any], key: str, known: Mapping[Any, int], place: str) -> int:
    if key not in record:
        raise YoloError(f"{place} has no {key}")
    value = record[key]
    if type(value) not in (int, str) or value not in known:
        raise YoloError(f"{place}: there is no {key.removesuffix('_id')} with the id {brief(value)}")
    return known[value]


def _crowd(record: Mapping[str, Any], place: str) -> bool:
    value = record.get("iscrowd", 0)
    if not isinstance(value, int) or value not in (0, 1):
        raise YoloError(f"{place}: iscrowd is {brief(value)}; it must be 0 or 1")
    return bool(value)


def _area(record: Mapping[str, Any], box: Sequence[float], place: str, report: Report) -> float:
    value = record.get("area")
    if value is not None:
        if _finite(value) and value >= 0:
            return float(value)
        report.add("areas are not positive numbers and were replaced by width x height", place)
    return math.fabs(box[2] * box[3])


def _count(report: Report, kind: str, mask: NDArray[np.bool_], boxes: CocoBoxes, where: str) -> None:
    if mask.any():
        first = int(np.argmax(mask))
        report.add(kind, f"{where}: annotation {boxes.names[first]} {_text(boxes, first)}", int(mask.sum()))


def _text(boxes: CocoBoxes, index: int) -> str:
    return "[" + ", ".join(f"{value:g}" for value in boxes.xywh[index]) + "]"
