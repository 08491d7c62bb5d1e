"""Source pictures arranged on an imagined canvas, and the one place where they become pixels and boxes.

A *layout* (letterbox, mosaic) says where on an imagined scene each picture lies; a *view* says how the scene is seen
from the output canvas (the random affine). Nothing is drawn on the scene: the two matrices are multiplied, and every
picture is warped once, straight into the output.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol

import numpy as np
from numpy.typing import NDArray

from yolo.data.augment.base import Context, Drawn, Params, Stage
from yolo.data.augment.geometry import (
    Matrix,
    Rect,
    bounds,
    clip_boxes,
    corners,
    transform_boxes,
    transform_points,
    worth_keeping,
)
from yolo.data.augment.paint import blank, paint
from yolo.data.types import Sample, Targets


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

    def read(self, index: int) -> Source:
        """Decode a file."""

    def size(self, index: int) -> tuple[int, int]:
        """Width and height as the label files tell them, without touching the file."""


@dataclass(frozen=True)
class Tile:
    """One picture in a scene.

    Attributes:
        source: the picture.
        matrix: ``[3, 3]`` source pixels to scene pixels.
        clip: rectangle of the scene outside which the picture is cut off.
    """

    source: Source
    matrix: Matrix
    clip: Rect


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


@dataclass(frozen=True)
class View:
    """How the output canvas sees a scene.

    Attributes:
        matrix: ``[3, 3]`` scene to canvas.
        size: width and height of the canvas.
    """

    matrix: Matrix
    size: tuple[int, int]

    def shows(self, rect: Rect) -> bool:
        """Whether any of a rectangle of the scene can be seen (a file that cannot need not be read)."""
        x0, y0, x1, y1 = bounds(transform_points(self.matrix, corners(rect)))
        return x1 > 0 and y1 > 0 and x0 < self.size[0] and y0 < self.size[1]


class Layout(Drawn[Params], Generic[Params]):
    """Arranges one or several pictures of the data set in a scene."""

    stage: ClassVar[Stage] = "mix"

    @abstractmethod
    def scene_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the scene for an output canvas of ``size``. The view looks at its middle."""

    @abstractmethod
    def arrange(self, params: Params, context: Context, reader: Reader, shows: Callable[[Rect], bool]) -> Scene:
        """Place the pictures; ``context.index`` is the first. Read only files of which ``shows`` says they matter."""


def render(scene: Scene, view: View, index: int) -> Sample:
    """Draw a scene as seen, with the boxes that are left of it.

    Boxes are cut to their tile and to the canvas, then filtered by :func:`geometry.worth_keeping`; a box is as visible
    as the uncut box under the same matrix says.
    """
    canvas = blank(view.size)
    found = [_draw(canvas, tile, view) for tile in scene.tiles]
    boxes = np.concatenate([targets.boxes for targets in found]) if found else Targets.empty().boxes
    labels = np.concatenate([targets.labels for targets in found]) if found else Targets.empty().labels
    return Sample(canvas, Targets(boxes, labels), index, scene.source_size, view.matrix @ scene.matrix)


def _draw(canvas: NDArray[np.uint8], tile: Tile, view: View) -> Targets:
    source, total = tile.source, view.matrix @ tile.matrix
    height, width = source.image.shape[:2]
    pixels = total
    if (width, height) != source.size:
        pixels = total @ np.diag([source.size[0] / width, source.size[1] / height, 1.0])
    paint(canvas, source.image, pixels, transform_points(view.matrix, corners(tile.clip)))
    if not len(source.targets):
        return source.targets
    in_scene = clip_boxes(transform_boxes(tile.matrix, source.targets.boxes), tile.clip)
    seen = clip_boxes(transform_boxes(view.matrix, in_scene), (0, 0, *view.size))
    keep = worth_keeping(seen, transform_boxes(total, source.targets.boxes))
    return Targets(seen[keep].astype(np.float32), source.targets.labels[keep])
