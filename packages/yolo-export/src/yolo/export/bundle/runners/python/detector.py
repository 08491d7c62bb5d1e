"""What stands around the network: pictures to its input, its output to boxes. Needs NumPy and OpenCV, nothing else.

The rules are those of spec.json, and the programs in other languages repeat them: letterbox in whole numbers, bilinear
as OpenCV's INTER_LINEAR, greedy non-maximum suppression class by class.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Place(NamedTuple):
    """Where a picture lies on the canvas; sizes are (width, height) in pixels."""

    source: tuple[int, int]
    content: tuple[int, int]
    offset: tuple[int, int]


class Detections(NamedTuple):
    """Best first: boxes ``[N, 4]`` x1, y1, x2, y2 in pixels of the picture, scores ``[N]``, labels ``[N]``."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def place(source: tuple[int, int], target: tuple[int, int]) -> Place:
    """Fit a picture into a canvas: as large as fits, in the middle; integers only, so that all languages agree."""
    (width, height), (target_width, target_height) = source, target
    if target_width * height <= target_height * width:
        content = target_width, max(1, target_width * height // width)
    else:
        content = max(1, target_height * width // height), target_height
    return Place(source, content, ((target_width - content[0]) // 2, (target_height - content[1]) // 2))


def letterbox(picture: np.ndarray, target: tuple[int, int], fill: int = 114) -> tuple[np.ndarray, Place]:
    """Draw a picture, uint8 ``[H, W, 3]``, on a grey canvas of ``target`` (width, height)."""
    where = place((picture.shape[1], picture.shape[0]), target)
    if where.content != where.source:
        picture = cv2.resize(picture, where.content, interpolation=cv2.INTER_LINEAR)
    canvas = np.full((target[1], target[0], 3), fill, np.uint8)
    (left, top), (width, height) = where.offset, where.content
    canvas[top : top + height, left : left + width] = picture
    return canvas, where


def to_input(canvas: np.ndarray) -> np.ndarray:
    """A canvas, uint8 RGB ``[H, W, 3]``, as float32 ``[1, 3, H, W]`` from 0 to 1."""
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None]).astype(np.float32) / np.float32(255)


def detect(
    output: np.ndarray, where: Place, *, confidence: float, iou: float, max_detections: int, max_candidates: int = 30000
) -> Detections:
    """From the network's output to boxes on the picture.

    Args:
        output: float32 ``[1, 4 + classes, anchors]``: centre x, centre y, width, height in pixels of the canvas, then
            one probability per class.
        where: of the picture on the canvas.
        confidence: candidates, pairs of an anchor and a class, have a score above it.
        iou: a candidate goes when it overlaps a better one of its class, that stayed, by more than this.
        max_detections: that are returned.
        max_candidates: the best so many take part.
    """
    rows = np.ascontiguousarray(output[0].T)
    scores = rows[:, 4:].ravel()
    pairs = np.flatnonzero(scores > np.float32(confidence))
    pairs = pairs[np.argsort(-scores[pairs], kind="stable")][:max_candidates]
    anchors, labels = pairs // (rows.shape[1] - 4), pairs % (rows.shape[1] - 4)
    centre, half = rows[anchors, :2], rows[anchors, 2:4] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float64)
    finite = np.isfinite(boxes).all(axis=1)
    boxes, labels, scores = boxes[finite], labels[finite], scores[pairs][finite]
    kept = _suppress(boxes, labels, iou, max_detections)
    scale = np.array(where.content) / np.array(where.source)
    boxes = (boxes[kept] - np.tile(where.offset, 2)) / np.tile(scale, 2)
    boxes = np.clip(boxes, 0, np.tile(where.source, 2).astype(np.float64))
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # not wholly on the grey border
    return Detections(boxes[visible].astype(np.float32), scores[kept][visible], labels[kept][visible])


def _suppress(boxes: np.ndarray, labels: np.ndarray, iou: float, limit: int) -> np.ndarray:
    """Positions of the survivors; the boxes come best first."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(boxes), bool)
    kept = []
    for best in range(len(boxes)):
        if not alive[best]:
            continue
        kept.append(best)
        if len(kept) == limit:
            break
        rest = best + 1 + np.flatnonzero(alive[best + 1 :] & (labels[best + 1 :] == labels[best]))
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = np.clip(high - low, 0, None).prod(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # of boxes without area
            alive[rest[common / (areas[best] + areas[rest] - common) > iou]] = False
    return np.array(kept, np.int64)


def draw(picture: np.ndarray, found: Detections, names: list[str]) -> np.ndarray:
    """Return a copy of an RGB picture with boxes and names on it."""
    canvas = np.ascontiguousarray(picture).copy()
    line = max(1, round(sum(canvas.shape[:2]) / 600))
    for box, score, label in reversed(list(zip(found.boxes, found.scores, found.labels, strict=True))):
        hue = np.array([[[int(label) * 67 % 180, 220, 230]]], np.uint8)
        color = [int(value) for value in cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0]]
        x1, y1, x2, y2 = (round(float(value)) for value in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, line)
        name = names[label] if label < len(names) else str(label)
        text, size = f"{name} {score:.2f}", max(0.4, line / 3)
        (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        top = max(0, y1 - height - base)
        cv2.rectangle(canvas, (x1, top), (x1 + width, top + height + base), color, -1)
        cv2.putText(canvas, text, (x1, top + height), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas
