"""Boxes of a COCO json against the sizes of their images: what is clipped, dropped or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from yolo.data.formats import kinds
from yolo.data.formats.coco_boxes import CocoBoxes
from yolo.data.formats.report import DataError, Place, Report

#: How many pixels a box may reach over the edge before it is clipped: less is rounding, and stays as it is.
EDGE = 1.0
_ODD = np.random.default_rng(0).integers(0, 1 << 62, 6, np.uint64) * 2 + 1  # weights of a hash of six columns


def repair_boxes(boxes: CocoBoxes, sizes: NDArray[np.int32], where: Place, report: Report) -> CocoBoxes:
    """Clip what reaches over the image, drop what has no area or lies outside, refuse what is another convention.

    Boxes of images without a size (which could not be read) are dropped without a word.

    Raises:
        DataError: negative sizes (a collecting report takes it, and the box is dropped); normalised boxes; corners
            instead of width and height.
    """
    readable = np.asarray((sizes[boxes.owner] > 0).all(axis=1))
    boxes = boxes if readable.all() else boxes.select(readable)
    w, h = boxes.xywh[:, 2], boxes.xywh[:, 3]
    negative = (w < 0) | (h < 0)
    for index in np.flatnonzero(negative).tolist():
        text = f"negative width or height: {_text(boxes, index)}"
        report.refuse(DataError("negative-size", _place(boxes, index, where), text))
    boxes = boxes.select(~negative) if negative.any() else boxes

    x, y, w, h = boxes.xywh.T
    width, height = sizes[boxes.owner].astype(np.float64).T
    over = (x + w > width + EDGE) | (y + h > height + EDGE) | (x < -EDGE) | (y < -EDGE)
    _refuse_other_conventions(boxes, over, width, height, where)

    outside = (x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)
    empty = (w == 0) | (h == 0)
    drop = outside | empty
    clip = over & ~drop
    for kind, mask in (
        (kinds.EMPTY_BOX, empty),
        (kinds.OUTSIDE, outside & ~empty),
        (kinds.OVER_EDGE, clip),
        (kinds.REPEATED_BOX, repeated_boxes(boxes)),
    ):
        found = np.flatnonzero(mask).tolist()
        report.add_each(kind, found, lambda index: (_place(boxes, index, where, text=True), ""))
    low = np.where(clip[:, None], np.clip(boxes.xywh[:, :2], 0, None), boxes.xywh[:, :2])
    high = boxes.xywh[:, :2] + boxes.xywh[:, 2:]
    high = np.where(clip[:, None], np.minimum(high, np.stack([width, height], 1)), high)
    repaired = replace(boxes, xywh=np.concatenate([low, high - low], 1))
    return repaired.select(~drop) if drop.any() else repaired


def repeated_boxes(boxes: CocoBoxes) -> NDArray[np.bool_]:
    """Annotations whose image, class and box an earlier one has; crowd regions do not count."""
    columns = [boxes.owner, boxes.labels, *boxes.xywh.T]
    # Few boxes repeat, if any: one number for each box tells which are worth a comparison.
    keys = np.zeros(len(boxes.owner), np.uint64)
    with np.errstate(over="ignore"):
        for column, weight in zip(columns, _ODD, strict=True):
            keys += np.ascontiguousarray(column).view(np.uint64) * weight
    order = np.argsort(keys, kind="stable")
    at = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    same = np.zeros(len(keys), np.bool_)
    later, earlier = order[at + 1], order[at]
    same[later] = np.logical_and.reduce([column[later] == column[earlier] for column in columns])
    same[later] &= ~(boxes.crowd[later] | boxes.crowd[earlier])
    return same


def _refuse_other_conventions(
    boxes: CocoBoxes, over: NDArray[np.bool_], width: NDArray[np.float64], height: NDArray[np.float64], where: Place
) -> None:
    x, y, w, h = boxes.xywh.T
    if len(x) >= 3 and (np.abs(boxes.xywh) <= 1).all():
        text = "every bbox is within 0 to 1: it must be x, y, width, height in pixels"
        raise DataError("other-convention", where, text)
    corners = (w > x) & (h > y) & (w <= width + EDGE) & (h <= height + EDGE)
    if len(x) >= 3 and over.mean() > 0.5 and corners.all():
        text = (
            f"the boxes look like corners (x1, y1, x2, y2): {over.mean():.0%} leave their image when read as "
            f"x, y, width, height, first annotation {boxes.names[int(np.argmax(over))]}"
        )
        raise DataError("other-convention", where, text)


def _place(boxes: CocoBoxes, index: int, where: Place, *, text: bool = False) -> Place:
    what = f"annotation {boxes.names[index]}{' ' + _text(boxes, index) if text else ''}"
    return where._replace(what=what, entry=("annotations", int(boxes.positions[index])))


def _text(boxes: CocoBoxes, index: int) -> str:
    return "[" + ", ".join(f"{value:g}" for value in boxes.xywh[index]) + "]"
