"""Source pictures arranged on an imagined canvas, and the one place where they become pixels and boxes.

A *layout* (letterbox, mosaic) says where on an imagined scene each picture lies; a *view* says how the scene is seen
from the output canvas (the random affine). Nothing is drawn on the scene: the two matrices are multiplied, and every
picture is warped once, straight into the output.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from yolo.core.reduction import reduced_scale
from yolo.data.augment.base import Context, Drawn, Params, Recolour, Stage
from yolo.data.augment.geometry import Matrix, Rect, scaling
from yolo.data.augment.paint import Quad, blank, paint
from yolo.data.augment.tiles import Picture, Source, Tile, tile_region, visible_targets
from yolo.data.augment.view import View
from yolo.data.types import Sample, Targets

__all__ = ["Layout", "Picture", "Reader", "Scene", "Seen", "Source", "Tile", "look_at", "render"]

_NOTHING: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)


class Reader(Protocol):
    """Gives layouts the pictures they ask for."""

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Picture:
        """Decode a file, now or when it is drawn.

        Args:
            index: position in the data set.
            least: (width, height) that the picture takes on the canvas at most, so that a file may be decoded at a
                reduced size that is still as large; None for all there is.
            rows: number of rows, counted from the top in full size, that are looked at; None for all. Those below may
                be black.
        """

    def size(self, index: int) -> tuple[int, int]:
        """Width and height as the label files tell them, without touching the file."""

    def targets(self, index: int) -> Targets:
        """Boxes in pixels of that size, without touching the file."""


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


@dataclass(frozen=True)
class Seen:
    """A scene as seen: where everything goes and the boxes that are left are known, but nothing is drawn yet.

    Attributes:
        view: how it is seen.
        tiles: what may be visible; a later one covers an earlier one.
        placed: ``[3, 3]`` each, from a tile's source to the canvas.
        regions: what each tile may draw on, pixels of the canvas.
        empty: the sample, without an image.
    """

    view: View
    tiles: Sequence[Tile]
    placed: Sequence[Matrix]
    regions: Sequence[Quad | Rect]
    empty: Sample

    def draw(self, recolour: Recolour | None = None) -> Sample:
        """Decode and draw one tile after the other.

        Args:
            recolour: changes the colours of everything.
        """
        canvas = blank(self.view.size, recolour)
        for tile, matrix, region in zip(self.tiles, self.placed, self.regions, strict=True):
            _draw(canvas, tile.source, matrix, region, recolour)
        return replace(self.empty, image=canvas)


def look_at(scene: Scene, view: View, index: int) -> Seen:
    """Work out how a scene is seen, and the boxes that are left of it.

    Boxes are cut to their tile and to the canvas, then filtered by :func:`geometry.worth_keeping`; a box is as visible
    as the uncut box under the same matrix says.
    """
    placed = [view.place(tile.matrix, tile.source.size) if tile.placed is None else tile.placed for tile in scene.tiles]
    regions = [tile_region(tile, matrix, view) for tile, matrix in zip(scene.tiles, placed, strict=True)]
    targets = visible_targets(scene.tiles, placed, view)
    matrix = view.place(scene.matrix, scene.source_size)
    return Seen(view, scene.tiles, placed, regions, Sample(_NOTHING, targets, index, scene.source_size, matrix))


def render(scene: Scene, view: View, index: int) -> Sample:
    """Draw a scene as seen, with the boxes that are left of it (see :func:`look_at`)."""
    return look_at(scene, view, index).draw()


def _draw(
    canvas: NDArray[np.uint8], source: Picture, matrix: Matrix, region: Quad | Rect, recolour: Recolour | None
) -> None:
    image, size = source.image, source.size
    seen = image.shape[1], image.shape[0]
    if seen != size:
        x, y = reduced_scale(size, seen)
        matrix = matrix @ scaling(1 / x, 1 / y)
    paint(canvas, image, matrix, region, recolour)
