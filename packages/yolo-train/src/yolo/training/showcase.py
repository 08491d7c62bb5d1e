"""Sheets of pictures: predictions beside the truth, and batches as the network sees them."""

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
from yolo.data.types import Batch

TILE = 320
GAP = 6
_COLUMNS = 4


def draw_showcase(checkpoint: Path, table: LabelTable, loader: ImageLoader, path: Path, *, count: int = 6) -> None:
    """Draw pairs of truth (left) and prediction (right) for pictures spread over a split.

    Args:
        checkpoint: what predicts.
        table: labels of the split.
        loader: reads its pictures.
        path: a JPEG file, replaced atomically.
        count: pictures.
    """
    chosen = spread(len(table), count)
    pictures = [loader.read(table.path(i)) for i in chosen]
    write_jpeg(path, pairs_sheet(pictures, [truth_of(table, i) for i in chosen], Predictor(checkpoint)(pictures)))


def spread(total: int, count: int) -> list[int]:
    """Return up to ``count`` indices spread evenly over ``total``, the first and the last among them."""
    return [int(i) for i in np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))]


def truth_of(table: LabelTable, index: int) -> Detections:
    """Return the labels of an image as something that can be drawn."""
    targets = table.targets(index)
    scores = np.ones(len(targets), np.float32)
    return Detections(targets.boxes, scores, targets.labels, table.class_names, size=table.size(index))


def pairs_sheet(
    pictures: Sequence[NDArray[np.uint8]],
    truths: Sequence[Detections],
    guesses: Sequence[Detections],
    *,
    title: str = "prediction",
) -> NDArray[np.uint8]:
    """Draw truth (left) and prediction (right) of every picture, two pictures a row.

    Args:
        pictures: uint8 ``[H, W, 3]`` RGB.
        truths: one for each.
        guesses: one for each; scores are written beside the names.
        title: above the predictions.
    """
    tiles = []
    for picture, truth, guess in zip(pictures, truths, guesses, strict=True):
        tiles += [_drawn(picture, truth, show_scores=False), _drawn(picture, guess, show_scores=True)]
    columns = min(_COLUMNS, len(tiles))
    return np.vstack([_header(columns, ("truth", title)), _grid(tiles, columns)])


def batch_sheet(batch: Batch, class_names: tuple[str, ...], *, count: int = 16) -> NDArray[np.uint8]:
    """Draw images of a batch with their boxes, just as the network gets them.

    Args:
        batch: on any device.
        class_names: by label.
        count: images at most, from the first on.
    """
    count = min(count, len(batch.images))
    images = np.ascontiguousarray(batch.images[:count].permute(0, 2, 3, 1).cpu().numpy())
    boxes, labels = batch.boxes.float().cpu().numpy(), batch.labels.cpu().numpy()
    owner = batch.image_index.cpu().numpy()
    size = (images.shape[2], images.shape[1])
    tiles = []
    for at, image in enumerate(images):
        mine = owner == at
        found = Detections(boxes[mine], np.ones(mine.sum(), np.float32), labels[mine], class_names, size=size)
        tiles.append(_drawn(image, found, show_scores=False))
    return _grid(tiles, min(_COLUMNS, count))


def write_jpeg(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write a picture, uint8 ``[H, W, 3]`` RGB, as a JPEG file, atomically."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert ok
    write_atomically(path, data.tobytes())


def _drawn(picture: NDArray[np.uint8], detections: Detections, *, show_scores: bool) -> NDArray[np.uint8]:
    """Scale a picture to a tile first and draw then, so that labels are legible whatever its size."""
    height, width = picture.shape[:2]
    factor = TILE / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    shown = np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)
    stretch = np.array([size[0] / detections.size[0], size[1] / detections.size[1]] * 2, np.float32)
    scaled = replace(detections, boxes=detections.boxes * stretch, size=size)  # a cached picture may be a smaller one
    tile = np.full((size[1] + GAP, TILE + GAP, 3), 255, np.uint8)
    tile[: size[1], : size[0]] = draw_detections(shown, scaled, show_scores=show_scores)
    return tile


def _grid(tiles: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    rows = []
    for start in range(0, len(tiles), columns):
        part = tiles[start : start + columns]
        row = np.full((max(len(tile) for tile in part), columns * (TILE + GAP), 3), 255, np.uint8)
        for position, tile in enumerate(part):
            left = position * (TILE + GAP)
            row[: len(tile), left : left + tile.shape[1]] = tile
        rows.append(row)
    return np.vstack(rows)


def _header(columns: int, titles: tuple[str, str]) -> NDArray[np.uint8]:
    strip = np.full((28, columns * (TILE + GAP), 3), 255, np.uint8)
    for column in range(columns):
        text, x = titles[column % 2], 8 + column * (TILE + GAP)
        cv2.putText(strip, text, (x, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (40, 40, 40), 1, cv2.LINE_AA)
    return strip
