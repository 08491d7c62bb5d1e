"""Mosaic of four pictures (Bochkovskiy et al., YOLOv4, 2020, section 3.3; scene and centre as in the YOLO recipes)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from yolo.data.augment.base import Context
from yolo.data.augment.geometry import Matrix, Rect, scaling, translation
from yolo.data.augment.scene import Layout, Reader, Scene, Tile

#: Which corner of each picture touches the centre (fractions of its width and height): the first lies left above it.
_CORNERS = ((1, 1), (0, 1), (1, 0), (0, 0))


@dataclass(frozen=True)
class MosaicParams:
    """One drawn mosaic.

    Attributes:
        centre: where the four pictures meet, pixels of the scene.
        partners: data set indices of the second to fourth picture (right above, left below, right below the centre).
    """

    centre: tuple[float, float]
    partners: tuple[int, int, int]


class Mosaic(Layout[MosaicParams]):
    """Four pictures around a random centre, each as large as a letterbox would make it.

    The scene has twice the output's width and height; the centre is uniform in its middle half.
    """

    def scene_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Twice the output."""
        return 2 * size[0], 2 * size[1]

    def draw(self, rng: np.random.Generator, context: Context) -> MosaicParams:
        """Draw the centre and three partners (the sample itself may be one of them)."""
        x, y = rng.uniform(0.5, 1.5, 2) * context.size
        a, b, c = rng.integers(context.count, size=3).tolist()
        return MosaicParams((float(x), float(y)), (a, b, c))

    def arrange(self, params: MosaicParams, context: Context, reader: Reader, shows: Callable[[Rect], bool]) -> Scene:
        """Place the pictures that the view shows; the others are not even read."""
        tiles = []
        for corner, index in zip(_CORNERS, (context.index, *params.partners), strict=True):
            clip = self._quadrant(corner, params.centre, context.size)
            if shows(clip):
                source = reader.read(index)
                tiles.append(Tile(source, self._place(corner, params.centre, source.size, context.size), clip))
        size = tiles[0].source.size if tiles and tiles[0].source.index == context.index else reader.size(context.index)
        return Scene(tiles, size, self._place(_CORNERS[0], params.centre, size, context.size))

    def _quadrant(self, corner: tuple[int, int], centre: tuple[float, float], size: tuple[int, int]) -> Rect:
        width, height = self.scene_size(size)
        x0, x1 = (0.0, centre[0]) if corner[0] else (centre[0], float(width))
        y0, y1 = (0.0, centre[1]) if corner[1] else (centre[1], float(height))
        return x0, y0, x1, y1

    @staticmethod
    def _place(
        corner: tuple[int, int], centre: tuple[float, float], source: tuple[int, int], size: tuple[int, int]
    ) -> Matrix:
        fit = min(size[0] / source[0], size[1] / source[1])
        return translation(*centre) @ scaling(fit, fit) @ translation(-corner[0] * source[0], -corner[1] * source[1])
