"""Mosaic of nine pictures: the 3 x 3 counterpart of the mosaic of four, on a scene of the same size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from yolo.data.augment.mosaic import Band, Mosaic


class Mosaic9(Mosaic):
    """Nine pictures in a grid whose middle is random, each letterboxed to two thirds of the output's size.

    The scene has twice the output's width and height, as that of :class:`~yolo.data.augment.mosaic.Mosaic`, so that one
    view serves both and objects are two thirds as large as there. The sample's own picture is in the middle; the middle
    of that is uniform in the scene's middle third. The others are laid against the middle cell.
    """

    grid: ClassVar[int] = 3
    own: ClassVar[int] = 4

    def bands(self, centre: float, cell: float, end: float) -> Sequence[Band]:
        """The middle band has the cell's side; outside it a picture touches it and reaches as far as it does."""
        low, high = centre - cell / 2, centre + cell / 2
        return Band(0.0, low, low, 1.0), Band(low, high, centre, 0.5), Band(high, end, high, 0.0)
