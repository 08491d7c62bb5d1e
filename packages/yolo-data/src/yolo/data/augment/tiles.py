"""Pictures in a scene: what they are, where they may draw, and what is left of their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from yolo.data.augment.geometry import (
    Matrix,
    Rect,
    clip_boxes,
    corners,
    is_axis_aligned,
    map_rect,
    transform_boxes,
    transform_points,
    worth_keeping,
)
from yolo.data.augment.paint import Quad
from yolo.data.augment.view import View
from yolo.data.types import Targets

Boxes = NDArray[np.float64]
_EVERYWHERE: Rect = (-np.inf, -np.inf, np.inf, np.inf)


@dataclass(frozen=True)
class Source:
    """A decoded file.

    Attributes:
        index: position in the data set.
        image: uint8 ``[H, W, 3]`` RGB, upright.
        targets: boxes in pixels of a picture of ``size``.
        size: width and height that ``targets`` and layouts count in. A decoder may hand out a smaller ``image``.
    """

    index: int
    image: NDArray[np.uint8]
    targets: Targets
    size: tuple[int, int]


class Picture(Protocol):
    """A :class:`Source`, or something with the same attributes that decodes its file when the image is asked for."""

    @property
    def index(self) -> int:
        """Position in the data set."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 ``[H, W, 3]`` RGB, upright; ask once."""

    @property
    def targets(self) -> Targets:
        """Boxes in pixels of a picture of ``size``."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that ``targets`` and layouts count in."""


@dataclass(frozen=True)
class Tile:
    """One picture in a scene.

    Attributes:
        source: the picture.
        matrix: ``[3, 3]`` source pixels to scene pixels. With a ``clip``, it only scales and moves.
        clip: rectangle of the scene outside which the picture is cut off; None where nothing is.
        part: rectangle of the source that is shown; None for all of it. The boxes lie in it.
        placed: ``[3, 3]`` source pixels to the canvas, from ``View.place``; None where the layout did not ask for it.
    """

    source: Picture
    matrix: Matrix
    clip: Rect | None = None
    part: Rect | None = None
    placed: Matrix | None = None


def tile_region(tile: Tile, matrix: Matrix, view: View) -> Quad | Rect:
    """What a tile may draw on, on the canvas: a rectangle, or the corners ``[4, 2]`` of a quadrilateral."""
    part = tile.part or (0, 0, *tile.source.size)
    aligned = is_axis_aligned(matrix)
    if tile.clip is None:
        return map_rect(matrix, part) if aligned else transform_points(matrix, corners(part))
    if aligned:
        return _common(map_rect(matrix, part), map_rect(view.matrix, tile.clip))
    return transform_points(view.matrix, corners(_common(map_rect(tile.matrix, part), tile.clip)))


def _common(a: Rect, b: Rect) -> Rect:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def visible_targets(tiles: Sequence[Tile], placed: Sequence[Matrix], view: View) -> Targets:
    """The boxes of all tiles as seen, cut, without those that are not worth keeping.

    Args:
        tiles: with the boxes.
        placed: ``[3, 3]`` each, from a tile's source to the canvas.
        view: from the scene to the canvas.
    """
    counts = [len(tile.source.targets) for tile in tiles]
    if not sum(counts):
        return Targets.empty()
    boxes = np.concatenate([tile.source.targets.boxes for tile in tiles])
    labels = np.concatenate([tile.source.targets.labels for tile in tiles])
    seen = whole = transform_boxes(np.repeat(np.stack(placed), counts, axis=0), boxes)
    if any(tile.clip is not None for tile in tiles):
        seen = _clipped(tiles, counts, whole, view)
    seen = clip_boxes(seen, (0, 0, *view.size))
    keep = worth_keeping(seen, whole)
    return Targets(seen[keep].astype(np.float32), labels[keep])


def _clipped(tiles: Sequence[Tile], counts: Sequence[int], whole: Boxes, view: View) -> Boxes:
    """Cut the boxes ``[N, 4]`` of all tiles to their clips; ``counts`` says how many each has."""
    clips = [_EVERYWHERE if tile.clip is None else tile.clip for tile in tiles]
    aligned = is_axis_aligned(view.matrix)
    if aligned:
        clips = [clip if clip is _EVERYWHERE else map_rect(view.matrix, clip) for clip in clips]
    low, high = np.repeat(np.array(clips, np.float64), counts, axis=0).reshape(-1, 2, 1, 2).swapaxes(0, 1)
    if aligned:
        return np.clip(whole.reshape(-1, 2, 2), low, high).reshape(-1, 4)
    # In the scene, where the clip is a rectangle.
    matrices = np.repeat(np.stack([tile.matrix for tile in tiles]), counts, axis=0)
    boxes = transform_boxes(matrices, np.concatenate([tile.source.targets.boxes for tile in tiles]))
    cut = np.clip(boxes.reshape(-1, 2, 2), low, high).reshape(-1, 4)
    has_clip = np.repeat([tile.clip is not None for tile in tiles], counts)[:, None]
    return np.where(has_clip, transform_boxes(view.matrix, cut), whole)  # a turned box is not boxed in twice
