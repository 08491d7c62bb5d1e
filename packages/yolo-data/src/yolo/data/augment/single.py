"""The layout of one picture: letterboxed, as validation and prediction see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from yolo.core.letterbox import letterbox_geometry
from yolo.data.augment.base import Context
from yolo.data.augment.geometry import Rect
from yolo.data.augment.scene import Layout, Reader, Scene, Tile


@dataclass(frozen=True)
class NoParams:
    """Nothing is random."""


class Single(Layout[NoParams]):
    """Fit the picture into the scene with :func:`yolo.core.letterbox.letterbox_geometry`.

    The grey border is no part of the picture, so a view that shows more than the scene shows nothing cut off.
    """

    def scene_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """As large as the output."""
        return size

    def draw(self, rng: np.random.Generator, context: Context) -> NoParams:
        """Draw nothing."""
        return NoParams()

    def arrange(self, params: NoParams, context: Context, reader: Reader, shows: Callable[[Rect], bool]) -> Scene:
        """Place the picture in the middle."""
        source = reader.read(context.index)
        matrix = letterbox_geometry(source.size, context.size).matrix
        return Scene([Tile(source, matrix, (0, 0, *context.size))], source.size, matrix)
