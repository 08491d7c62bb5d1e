"""Mosaic of four pictures (Bochkovskiy et al., YOLOv4, 2020, section 3.3; scene and centre as in the YOLO recipes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from yolo.data.augment.base import Context
from yolo.data.augment.geometry import Matrix, Rect
from yolo.data.augment.scene import Layout, Reader, Scene, Tile
from yolo.data.augment.view import View


@dataclass(frozen=True)
class MosaicParams:
    """One drawn mosaic.

    Attributes:
        centre: where four pictures meet, or the middle of the middle one; pixels of the scene.
        partners: data set indices of the other pictures, row by row. The sample's own picture is left above the centre,
            or the middle one.
    """

    centre: tuple[float, float]
    partners: tuple[int, ...]


@dataclass(frozen=True)
class Band:
    """A row or a column of the grid.

    Attributes:
        low: where it begins, pixels of the scene.
        high: where it ends.
        anchor: the point that a picture is laid on.
        share: which point of the picture's side that is: 0 its beginning, 1 its end.
    """

    low: float
    high: float
    anchor: float
    share: float


class Mosaic(Layout[MosaicParams]):
    """Four pictures around a random centre, each as large as a letterbox would make it.

    The scene has twice the output's width and height; the centre is uniform in its middle half.
    """

    #: Pictures a row and a column.
    grid: ClassVar[int] = 2
    #: Which place (row by row) has the sample's own picture.
    own: ClassVar[int] = 0

    def scene_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Twice the output."""
        return 2 * size[0], 2 * size[1]

    def draw(self, rng: np.random.Generator, context: Context) -> MosaicParams:
        """Draw the centre and the partners (the sample itself may be one of them)."""
        x, y = rng.uniform(1 - 1 / self.grid, 1 + 1 / self.grid, 2) * context.size
        return MosaicParams((float(x), float(y)), context.pick(rng, self.grid**2 - 1))

    def arrange(self, params: MosaicParams, context: Context, reader: Reader, view: View) -> Scene:
        """Place the pictures that the view shows; the others are not even read."""
        cell = context.size[0] * 2 / self.grid, context.size[1] * 2 / self.grid
        columns = self.bands(params.centre[0], cell[0], 2.0 * context.size[0])
        rows = self.bands(params.centre[1], cell[1], 2.0 * context.size[1])
        places = [(column, row) for row in rows for column in columns]
        indices = [*params.partners[: self.own], context.index, *params.partners[self.own :]]
        tiles = []
        for (column, row), index in zip(places, indices, strict=True):
            size = reader.size(index)
            matrix = _place(column, row, size, cell)
            (fit, _, x), (_, _, y), _ = matrix.tolist()
            clip: Rect = (column.low, row.low, column.high, row.high)
            drawn = _overlap((x, y, x + fit * size[0], y + fit * size[1]), clip)
            if drawn is not None and view.shows(drawn):
                part = (drawn[0] - x) / fit, (drawn[1] - y) / fit, (drawn[2] - x) / fit, (drawn[3] - y) / fit
                placed = view.place(matrix, size)
                least, shown = view.least(placed, size, part), view.rows(placed, size, drawn)
                tiles.append(Tile(reader.read(index, least=least, rows=shown), matrix, clip, placed=placed))
        size = reader.size(context.index)
        return Scene(tiles, size, _place(*places[self.own], size, cell))

    def bands(self, centre: float, cell: float, end: float) -> Sequence[Band]:
        """The columns (or rows): the pictures touch each other where they meet.

        Args:
            centre: drawn centre along this axis.
            cell: side that a picture has at most.
            end: side of the scene.
        """
        return Band(0.0, centre, centre, 1.0), Band(centre, end, centre, 0.0)


def _place(column: Band, row: Band, source: tuple[int, int], cell: tuple[float, float]) -> Matrix:
    fit = min(cell[0] / source[0], cell[1] / source[1])
    x, y = column.anchor - fit * column.share * source[0], row.anchor - fit * row.share * source[1]
    return np.array([[fit, 0, x], [0, fit, y], [0, 0, 1]], np.float64)


def _overlap(a: Rect, b: Rect) -> Rect | None:
    x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
