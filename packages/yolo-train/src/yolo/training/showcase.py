"""Predictions beside the truth, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.core.drawing import draw_detections
from yolo.core.files import write_atomically
from yolo.core.predictor import Predictor
from yolo.core.results import Detections
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader

TILE = 320
GAP = 6


def draw_showcase(checkpoint: Path, table: LabelTable, loader: ImageLoader, path: Path, *, count: int = 6) -> None:
    """Draw pairs of truth (left) and prediction (right) for pictures spread over a split.

    Args:
        checkpoint: what predicts.
        table: labels of the split.
        loader: reads its pictures.
        path: a JPEG file, replaced atomically.
        count: pictures.
    """
    chosen = np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).astype(int))
    pictures = [loader.read(table.path(int(i))) for i in chosen]
    found = Predictor(checkpoint)(pictures)
    pairs = [
        np.hstack([_drawn(picture, truth, show_scores=False), _drawn(picture, guess, show_scores=True)])
        for picture, truth, guess in zip(pictures, (_truth(table, int(i)) for i in chosen), found, strict=True)
    ]
    rows = [_side_by_side(pairs[i : i + 2]) for i in range(0, len(pairs), 2)]
    sheet = np.vstack([_header(rows[0].shape[1]), *rows])
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert ok
    write_atomically(path, data.tobytes())


def _truth(table: LabelTable, index: int) -> Detections:
    targets = table.targets(index)
    scores = np.ones(len(targets), np.float32)
    return Detections(targets.boxes, scores, targets.labels, table.class_names, size=table.size(index))


def _drawn(picture: NDArray[np.uint8], detections: Detections, *, show_scores: bool) -> NDArray[np.uint8]:
    """Scale a picture to a tile first and draw then, so that labels are legible whatever its size."""
    height, width = picture.shape[:2]
    factor = TILE / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    shown = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    stretch = np.array([size[0] / detections.size[0], size[1] / detections.size[1]] * 2, np.float32)
    scaled = replace(detections, boxes=detections.boxes * stretch, size=size)  # a cached picture may be a smaller one
    tile = np.full((size[1] + GAP, TILE + GAP, 3), 255, np.uint8)
    tile[: size[1], : size[0]] = draw_detections(shown, scaled, show_scores=show_scores)
    return tile


def _side_by_side(pairs: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    row = np.full((max(len(pair) for pair in pairs), 4 * (TILE + GAP), 3), 255, np.uint8)
    for position, pair in enumerate(pairs):
        left = position * 2 * (TILE + GAP)
        row[: len(pair), left : left + pair.shape[1]] = pair
    return row


def _header(width: int) -> NDArray[np.uint8]:
    strip = np.full((28, width, 3), 255, np.uint8)
    for column, text in enumerate(("truth", "prediction") * 2):
        cv2.putText(
            strip, text, (8 + column * (TILE + GAP), 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (40, 40, 40), 1, cv2.LINE_AA
        )
    return strip
