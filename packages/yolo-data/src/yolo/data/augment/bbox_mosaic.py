"""Mosaic of whole documents: four crops, each turned and warped on its own, none of them ever cut off.

Written from the description of the augmentation: a crop is mapped by its own matrix, the four mapped corners give the
extent of the canvas it needs, and that extent is fitted into a quadrant. The two steps are one matrix here, so each
document is warped once, straight into the output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from yolo.core.reduction import reduced_scale
from yolo.data.augment.affine import AffineParams, RandomPerspective, affine_matrix
from yolo.data.augment.base import Context
from yolo.data.augment.geometry import (
    Matrix,
    Rect,
    bounds,
    clip_boxes,
    corners,
    scaling,
    transform_boxes,
    transform_points,
    translation,
)
from yolo.data.augment.hsv import HSVParams, RandomHSV
from yolo.data.augment.scene import Layout, Picture, Reader, Scene, Source, Tile
from yolo.data.augment.view import View
from yolo.data.types import Sample, Targets

_FILL = 0.85  # of a quadrant: a margin of 15 %
_GRID = 2


@dataclass(frozen=True)
class DocumentParams:
    """What was drawn for one document.

    Attributes:
        index: of its picture in the data set.
        view: its own transform; the shift is a fraction of the quadrant.
        colour: its own colours.
        place: where it lies in the room that its quadrant leaves, -1 to 1 along x and y; 0 is the middle.
    """

    index: int
    view: AffineParams
    colour: HSVParams
    place: tuple[float, float]


@dataclass(frozen=True)
class BBoxMosaicParams:
    """One drawn mosaic: left above, right above, left below, right below; the first is the sample's own picture."""

    documents: tuple[DocumentParams, ...]


class BBoxMosaic(Layout[BBoxMosaicParams]):
    """Four documents in a 2 x 2 grid on grey.

    A document is the part of a picture within the smallest rectangle around all its boxes, so that none of several
    objects is cut; each box is tracked by its own corners. A picture without boxes is shown whole. The random view of
    the other layouts is left out (``moved`` is false): it would cut documents off.

    Args:
        view: draws each document's transform. Zooming in ends where the document fills its quadrant.
        colour: draws each document's colours.
        jitter: how far a document may be from the middle of its quadrant, 0 to 1: up to the border.
    """

    kind: ClassVar[Literal["single", "mosaic", "documents"]] = "documents"
    moved: ClassVar[bool] = False

    def __init__(
        self, *, view: RandomPerspective | None = None, colour: RandomHSV | None = None, jitter: float = 0.3
    ) -> None:
        self.view = view or RandomPerspective(degrees=20.0, translate=0.05, scale=0.15, shear=2.0)
        self.colour = colour or RandomHSV(hue=0.015, saturation=0.4, value=0.3)
        self.jitter = jitter

    def scene_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The output itself."""
        return size

    def draw(self, rng: np.random.Generator, context: Context) -> BBoxMosaicParams:
        """Draw the partners and each document's parameters."""
        documents = []
        for index in (context.index, *context.pick(rng, _GRID**2 - 1)):
            view, colour = self.view.draw(rng, context), self.colour.draw(rng, context)
            x, y = (self.jitter * rng.uniform(-1, 1, 2)).tolist()
            documents.append(DocumentParams(index, view, colour, (x, y)))
        return BBoxMosaicParams(tuple(documents))

    def arrange(self, params: BBoxMosaicParams, context: Context, reader: Reader, view: View) -> Scene:
        """Place the documents; each is decoded as large as it appears."""
        cell = context.size[0] / _GRID, context.size[1] / _GRID
        tiles, places = [], []
        for number, document in enumerate(params.documents):
            row, column = divmod(number, _GRID)
            size = reader.size(document.index)
            part = document_part(reader.targets(document.index), size)
            matrix = translation(column * cell[0], row * cell[1]) @ place_document(document, part, cell)
            source = reader.read(document.index, least=view.least(view.place(matrix, size), size, part))
            tiles.append(self._cut_out(source, part, matrix, document.colour))
            places.append(matrix)
        return Scene(tiles, reader.size(context.index), places[0])

    def _cut_out(self, source: Picture, part: Rect, matrix: Matrix, colour: HSVParams) -> Tile:
        """Make a picture of its own of a part, in its own colours; so nothing beside it is blended into its border."""
        image = source.image
        height, width = image.shape[:2]
        x, y = reduced_scale(source.size, (width, height))
        x0, y0 = math.floor(part[0] * x), math.floor(part[1] * y)
        x1, y1 = min(width, math.ceil(part[2] * x)), min(height, math.ceil(part[3] * y))
        to_piece = translation(-x0, -y0) @ scaling(x, y)
        targets = Targets(transform_boxes(to_piece, source.targets.boxes).astype(np.float32), source.targets.labels)
        piece = Sample(np.ascontiguousarray(image[y0:y1, x0:x1]), targets, source.index, (x1 - x0, y1 - y0))
        image = self.colour.apply(piece, colour).image
        to_scene = matrix @ scaling(1 / x, 1 / y) @ translation(x0, y0)
        shown = bounds(transform_points(to_piece, corners(part)))
        return Tile(Source(source.index, image, targets, piece.source_size), to_scene, part=shown)


def document_part(targets: Targets, size: tuple[int, int]) -> Rect:
    """The smallest rectangle around all boxes of a picture, a pixel a side at least; the picture where there are none.

    Args:
        targets: boxes in pixels of the picture.
        size: width and height of the picture.
    """
    if not len(targets):
        return 0.0, 0.0, float(size[0]), float(size[1])
    x0, y0, x1, y1 = bounds(clip_boxes(targets.boxes, (0, 0, *size)).reshape(-1, 2))
    (x0, x1), (y0, y1) = _a_pixel(x0, x1, size[0]), _a_pixel(y0, y1, size[1])
    return x0, y0, x1, y1


def _a_pixel(low: float, high: float, side: int) -> tuple[float, float]:
    low = min(low, side - 1.0)
    return low, max(high, low + 1)


def place_document(document: DocumentParams, part: Rect, cell: tuple[float, float]) -> Matrix:
    """Compose the matrix from source pixels to pixels of a quadrant, whose corner is the origin.

    The part is laid upright into the quadrant, then turned, slanted and bent there, so that a perspective means the
    same for pictures of any resolution. The extent of its four mapped corners is fitted into the quadrant with a margin
    of 15 % and zoomed, and never exceeds the quadrant; nor does any shift take it across the border.

    Args:
        document: what was drawn.
        part: the document in its picture, source pixels.
        cell: width and height of the quadrant, pixels.
    """
    width, height = part[2] - part[0], part[3] - part[1]
    upright = min(cell[0] / width, cell[1] / height)
    laid = scaling(upright, upright) @ translation(-part[0], -part[1])
    still = replace(document.view, zoom=1.0, shift=(0.0, 0.0))
    matrix = affine_matrix(still, (upright * width, upright * height), (0, 0)) @ laid
    x0, y0, x1, y1 = bounds(transform_points(matrix, corners(part)))
    extent = x1 - x0, y1 - y0
    factor = min(1.0, _FILL * document.view.zoom) * min(cell[0] / extent[0], cell[1] / extent[1])
    middle = []
    for axis in (0, 1):
        room = max(0.0, cell[axis] - factor * extent[axis]) / 2
        wanted = document.place[axis] * room + document.view.shift[axis] * cell[axis]
        middle.append(cell[axis] / 2 + min(max(wanted, -room), room))
    return translation(*middle) @ scaling(factor, factor) @ translation(-(x0 + x1) / 2, -(y0 + y1) / 2) @ matrix
