"""The golden files of a bundle: a picture, the network's input and output for it, and what is found in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.boxes.convert import cxcywh_to_xyxy
from yolo.core.boxes.nms import non_max_suppression
from yolo.core.letterbox import letterbox, undo_letterbox
from yolo.export.bundle.spec import Thresholds
from yolo.export.runtimes.base import Runtime
from yolo.export.samples import to_input

_SIZE = (203, 151)  # neither square nor even, so that the border has an odd pixel on most canvases
_FEWEST, _MOST = 60, 400  # candidates that should take part in the suppression


@dataclass(frozen=True, kw_only=True)
class Golden:
    """One pass through a model, step by step.

    Attributes:
        picture: uint8 ``[H, W, 3]`` RGB.
        input: float32 ``[1, 3, H, W]``, the letterboxed picture from 0 to 1.
        output: float32 ``[1, 4 + classes, anchors]``.
        thresholds: of the suppression; the confidence is one that no rounding of a score crosses.
        detections: best first: ``label``, ``score`` and ``box``, x1, y1, x2, y2 in pixels of the picture.
    """

    picture: NDArray[np.uint8]
    input: NDArray[np.float32]
    output: NDArray[np.float32]
    thresholds: Thresholds
    detections: list[dict[str, Any]]


def make_golden(
    runtime: Runtime, *, thresholds: Thresholds, picture: NDArray[np.uint8] | None = None, seed: int = 0
) -> Golden:
    """Send a picture through an exported file, and through the letterbox and the suppression of yolo-core.

    Args:
        runtime: the file.
        thresholds: of the bundle; the golden detections have a lower confidence, so that there are some on any picture.
        picture: uint8 ``[H, W, 3]`` RGB; default: one that is drawn.
        seed: of the drawn picture.
    """
    picture = draw_picture(seed) if picture is None else picture
    canvas, geometry = letterbox(picture, runtime.image_size)
    given = to_input(canvas)[None]
    output = np.ascontiguousarray(runtime.predict(given), dtype=np.float32)
    confidence = _confidence_in_a_gap(output[0, 4:])
    used = Thresholds(confidence=confidence, iou=thresholds.iou, max_detections=thresholds.max_detections)
    rows = torch.from_numpy(output).transpose(1, 2)
    found = non_max_suppression(
        cxcywh_to_xyxy(rows[..., :4]),
        rows[..., 4:],
        confidence=used.confidence,
        iou=used.iou,
        max_detections=used.max_detections,
        max_candidates=used.max_candidates,
    )[0]
    boxes = undo_letterbox(found.boxes, geometry)
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    columns = (found.labels[visible].tolist(), found.scores[visible].tolist(), boxes[visible].tolist())
    detections = [{"label": label, "score": score, "box": box} for label, score, box in zip(*columns, strict=True)]
    return Golden(picture=picture, input=given, output=output, thresholds=used, detections=detections)


def draw_picture(seed: int = 0) -> NDArray[np.uint8]:
    """Draw discs with a darker kernel on a sloping ground with grain; the same pixels for the same seed."""
    width, height = _SIZE
    generator = np.random.default_rng(seed)
    ends = generator.uniform(120, 255, (2, 3))
    slope = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    image = (ends[0] + (ends[1] - ends[0]) * slope).astype(np.uint8)
    for _ in range(14):
        centre = int(generator.integers(width)), int(generator.integers(height))
        axes = [int(side) for side in generator.integers(6, 26, 2)]
        color = generator.integers(60, 230, 3)
        cv2.ellipse(image, centre, axes, 0, 0, 360, color.tolist(), -1)
        cv2.ellipse(image, centre, [side // 2 for side in axes], 0, 0, 360, (color // 2).tolist(), -1)
    grained: NDArray[np.uint8] = np.clip(image + generator.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
    return grained


def _confidence_in_a_gap(scores: NDArray[np.float32]) -> float:
    """The middle of the widest gap, in proportion, between neighbouring scores of the best."""
    best = np.sort(scores.ravel())[::-1][:_MOST].astype(np.float64)
    first = min(_FEWEST, len(best) - 1) - 1
    if first < 0:
        return 0.5
    upper, lower = best[first:-1], best[first + 1 :]
    widest = int(np.argmax((upper - lower) / np.maximum(upper, 1e-12)))
    return float((upper[widest] + lower[widest]) / 2)
