"""Source pictures arranged on an imagined canvas, and the one place where they become pixels and boxes.

A *layout* (letterbox, mosaic) says where on an imagined scene each picture lies; a *view* says how the scene is seen
from the output canvas (the random affine). Nothing is drawn on the scene: the two matrices are multiplied, and every
picture is warped once, straight into the output.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from yolo.core.reduction import reduced_scale
from yolo.data.augment.base import Context, Drawn, Params, Stage
from yolo.data.augment.geometry import (
    Matrix,
    Rect,
    clip_boxes,
    corners,
    is_axis_aligned,
    map_rect,
    scaling,
    transform_boxes,
    transform_points,
    worth_keeping,
)
from yolo.data.augment.paint import blank, paint
from yolo.data.augment.view import View
from yolo.data.types import Sample, Targets

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


class Reader(Protocol):
    """Gives layouts the pictures they ask for."""

    def read(self, index: int, *, least: tuple[int, int] | None = None) -> Source:
        """Decode a file.

        Args:
            index: position in the data set.
            least: (width, height) that the picture takes on the canvas at most, so that a file may be decoded at a
                reduced size that is still as large; None for all there is.
        """

    def size(self, index: int) -> tuple[int, int]:
        """Width and height as the label files tell them, without touching the file."""

    def targets(self, index: int) -> Targets:
        """Boxes in pixels of that size, without touching the file."""


@dataclass(frozen=True)
class Tile:
    """One picture in a scene.

    Attributes:
        source: the picture.
        matrix: ``[3, 3]`` source pixels to scene pixels. With a ``clip``, it only scales and moves.
        clip: rectangle of the scene outside which the picture is cut off; None where nothing is.
        part: rectangle of the source that is shown; None for all of it. The boxes lie in it.
    """

    source: Source
    matrix: Matrix
    clip: Rect | None = None
    part: Rect | None = None


@dataclass(frozen=True)
class Scene:
    """What a layout made.

    Attributes:
        tiles: what may be visible; a later one covers an earlier one.
        source_size: width and height of the first picture, whether visible or not.
        matrix: ``[3, 3]`` of the first picture.
    """

    tiles: Sequence[Tile]
    source_size: tuple[int, int]
    matrix: Matrix


class Layout(Drawn[Params], Generic[Params]):
    """Arranges one or several pictures of the data set in a scene."""

    stage: ClassVar[Stage] = "mix"
    #: What kind of picture it makes, so that mixes know which ones are for them.
    kind: ClassVar[Literal["single", "mosaic", "documents"]] = "mosaic"
    #: Whether the random view moves the scene. Where nothing may be cut off it does not: the scene is the canvas.
    moved: ClassVar[bool] = True

    @abstractmethod
    def scene_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the scene for an output canvas of ``size``. The view looks at its middle."""

    @abstractmethod
    def arrange(self, params: Params, context: Context, reader: Reader, view: View) -> Scene:
        """Place the pictures; ``context.index`` is the first.

        Read only files of which ``view.shows`` says they matter, and say with ``view.least`` how large they appear.
        """


def render(scene: Scene, view: View, index: int) -> Sample:
    """Draw a scene as seen, with the boxes that are left of it.

    Boxes are cut to their tile and to the canvas, then filtered by :func:`geometry.worth_keeping`; a box is as visible
    as the uncut box under the same matrix says.
    """
    canvas = blank(view.size)
    placed = [view.place(tile.matrix, tile.source.size) for tile in scene.tiles]
    for tile, matrix in zip(scene.tiles, placed, strict=True):
        _draw(canvas, tile, matrix, view)
    targets = visible_targets(scene.tiles, placed, view)
    return Sample(canvas, targets, index, scene.source_size, view.place(scene.matrix, scene.source_size))


def _draw(canvas: NDArray[np.uint8], tile: Tile, matrix: Matrix, view: View) -> None:
    image, size = tile.source.image, tile.source.size
    region = _region(tile, matrix, view)
    seen = image.shape[1], image.shape[0]
    if seen != size:
        x, y = reduced_scale(size, seen)
        matrix = matrix @ scaling(1 / x, 1 / y)
    paint(canvas, image, matrix, region)


def _region(tile: Tile, matrix: Matrix, view: View) -> NDArray[np.float64] | Rect:
    """What a tile may draw on, on the canvas: a rectangle, or the corners ``[4, 2]`` of a quadrilateral."""
    part = tile.part or (0, 0, *tile.source.size)
    upright = is_axis_aligned(matrix)
    if tile.clip is None:
        return map_rect(matrix, part) if upright else transform_points(matrix, corners(part))
    if upright:
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
    upright = is_axis_aligned(view.matrix)
    if upright:
        clips = [clip if clip is _EVERYWHERE else map_rect(view.matrix, clip) for clip in clips]
    low, high = np.repeat(np.array(clips, np.float64), counts, axis=0).reshape(-1, 2, 1, 2).swapaxes(0, 1)
    if upright:
        return np.clip(whole.reshape(-1, 2, 2), low, high).reshape(-1, 4)
    # In the scene, where the clip is a rectangle.
    matrices = np.repeat(np.stack([tile.matrix for tile in tiles]), counts, axis=0)
    boxes = transform_boxes(matrices, np.concatenate([tile.source.targets.boxes for tile in tiles]))
    cut = np.clip(boxes.reshape(-1, 2, 2), low, high).reshape(-1, 4)
    has_clip = np.repeat([tile.clip is not None for tile in tiles], counts)[:, None]
    return np.where(has_clip, transform_boxes(view.matrix, cut), whole)  # a turned box is not boxed in twice
