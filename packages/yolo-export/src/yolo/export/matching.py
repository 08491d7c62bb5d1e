"""Detections of a file and of its checkpoint on one picture, after suppression, each with its counterpart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.boxes.convert import cxcywh_to_xyxy
from yolo.core.boxes.iou import box_iou
from yolo.core.boxes.nms import Detected, non_max_suppression

#: What ``yolo predict`` shows by default.
CONFIDENCE, IOU, MAX_DETECTIONS = 0.25, 0.65, 300
#: Of two boxes that count as one object.
SAME_OBJECT = 0.5
_LOWEST = 1e-12  # above zero, and below any score

Output = NDArray[np.floating]


@dataclass(frozen=True, eq=False, kw_only=True)
class Matches:
    """Every detection of either side with what the other side says there.

    Attributes:
        wanted: detections of the checkpoint.
        found: detections of the file.
        boxes: pixels, the largest difference of centre, width and height; first those of the checkpoint, then of the
            file, ``[wanted + found]``.
        scores: likewise.
    """

    wanted: int
    found: int
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]


def detect(output: Output, confidence: float) -> Detected:
    """Detections of one picture.

    Args:
        output: ``[4 + classes, A]``, centre x, centre y, width, height, scores.
        confidence: lower bound of the score, exclusive.
    """
    rows = torch.from_numpy(np.ascontiguousarray(output, dtype=np.float32)).t()[None]
    boxes, scores = cxcywh_to_xyxy(rows[..., :4]), rows[..., 4:]
    return non_max_suppression(boxes, scores, confidence=confidence, iou=IOU, max_detections=MAX_DETECTIONS)[0]


def thresholds(expected: list[Output], *, least: int) -> list[float]:
    """Confidence at which each picture's detections are compared.

    It is the one that people use, unless that leaves fewer than ``least`` detections on all pictures together, as of a
    network that has hardly been trained: then it is such that every picture has its best ``least``.

    Args:
        expected: the checkpoint's output for each picture, ``[4 + classes, A]``.
        least: number of detections.
    """
    if sum(len(detect(output, CONFIDENCE).scores) for output in expected) >= least:
        return [CONFIDENCE] * len(expected)
    found = [detect(output, _LOWEST).scores for output in expected]
    # Just below the last one that takes part, as the bound is exclusive.
    return [min(CONFIDENCE, float(scores[:least][-1]) * (1 - 1e-5)) if len(scores) else CONFIDENCE for scores in found]


def match(expected: Output, found: Output, *, confidence: float, boxes: float, scores: float) -> Matches:
    """Find what a file says about each detection of the checkpoint, and the other way round.

    That is the same prediction (anchor and class), whatever suppression made of it, or a detection of the same class in
    the same place: of two predictions with nearly equal scores either may survive. The latter counts where it is near,
    and nearer.

    Args:
        expected: the checkpoint's output for one picture, ``[4 + classes, A]``.
        found: the file's.
        confidence: of the detections.
        boxes: pixels that count as near.
        scores: likewise.
    """
    ours, theirs = detect(expected, confidence), detect(found, confidence)
    allowed = max(boxes, _LOWEST), max(scores, _LOWEST)
    missing = _differences(ours, theirs, expected, found, allowed)
    extra = _differences(theirs, ours, found, expected, allowed)
    return Matches(
        wanted=len(ours.scores),
        found=len(theirs.scores),
        boxes=np.concatenate([missing[0], extra[0]]),
        scores=np.concatenate([missing[1], extra[1]]),
    )


def _differences(
    one: Detected, other: Detected, own: Output, foreign: Output, allowed: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Difference of box and of score for each detection of one side."""
    anchors, labels = one.anchors.numpy(), one.labels.numpy()
    box = _largest(own[:4, anchors] - foreign[:4, anchors])
    score = _largest((own[4 + labels, anchors] - foreign[4 + labels, anchors])[None])
    if not len(anchors) or not len(other.anchors):
        return box, score
    there, classes = other.anchors.numpy(), other.labels.numpy()
    boxes = _largest(own[:4, anchors, None] - foreign[:4, None, there])
    scores = _largest((own[4 + labels, anchors][:, None] - foreign[4 + classes, there][None])[None])
    same = (labels[:, None] == classes) & (box_iou(one.boxes, other.boxes).numpy() >= SAME_OBJECT)
    distance = np.where(same, np.maximum(boxes / allowed[0], scores / allowed[1]), np.inf)
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(anchors))
    better = distance[rows, nearest] < np.maximum(box / allowed[0], score / allowed[1])
    better &= distance[rows, nearest] <= 1  # what is not near says nothing about the file
    return np.where(better, boxes[rows, nearest], box), np.where(better, scores[rows, nearest], score)


def _largest(difference: NDArray[np.floating]) -> NDArray[np.float64]:
    """The largest absolute value along the first axis; an undefined number is the largest of all."""
    worst: NDArray[np.float64] = np.nan_to_num(np.abs(difference).astype(np.float64), nan=np.inf, posinf=np.inf).max(0)
    return worst
