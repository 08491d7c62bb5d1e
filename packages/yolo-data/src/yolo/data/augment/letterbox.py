"""The layout of one picture: letterboxed, as validation and prediction see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from yolo.core.letterbox import letterbox_geometry
from yolo.data.augment.base import Context
from yolo.data.augment.scene import Layout, Reader, Scene, Tile
from yolo.data.augment.view import View


@dataclass(frozen=True)
class NoParams:
    """Nothing is random."""


class LetterBox(Layout[NoParams]):
    """Fit the picture into the scene with :func:`yolo.core.letterbox.letterbox_geometry`.

    The grey border is no part of the picture, so a view that shows more than the scene shows nothing cut off.
    """

    kind: ClassVar[Literal["single", "mosaic", "documents"]] = "single"

    def scene_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """As large as the output."""
        return size

    def draw(self, rng: np.random.Generator, context: Context) -> NoParams:
        """Draw nothing."""
        return NoParams()

    def arrange(self, params: NoParams, context: Context, reader: Reader, view: View) -> Scene:
        """Place the picture in the middle."""
        size = reader.size(context.index)
        matrix = letterbox_geometry(size, context.size).matrix
        source = reader.read(context.index, least=view.least(view.place(matrix, size), size))
        return Scene([Tile(source, matrix)], size, matrix)
