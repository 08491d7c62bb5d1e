"""Many pictures on one sheet of bounded size, each with a line of text above it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from yolo.core.errors import UsageError
from yolo.core.fonts import font_for

COLUMNS = 4
_MOST_PIXELS = 1 << 26  # 200 MB while the sheet is filled
_LONGEST_SIDE = 65000  # a JPEG file ends at 65535
_SMALLEST_TILE = 64
_GAP = 4
_TEXT = 14
_STRIP = _TEXT + 6


class Sheet:
    """A grid that is filled row by row. Pictures are shrunk where there are so many that it would grow too large.

    Args:
        count: how many pictures there will be.
        size: width and height of each, pixels.
        columns: pictures a row.

    Raises:
        UsageError: so many pictures that nothing could be seen.
    """

    def __init__(self, count: int, size: tuple[int, int], *, columns: int = COLUMNS) -> None:
        self.columns = min(columns, count)
        self.rows = -(-count // self.columns)
        self.tile = _tile_size(size, self.columns, self.rows)
        if max(self.tile) < min(_SMALLEST_TILE, max(size)):
            raise UsageError(f"--grid: {count} pictures are too many for one sheet; take fewer, or leave --grid out")
        width, height = (self.columns * (self.tile[0] + _GAP), self.rows * (self.tile[1] + _GAP + _STRIP))
        self._canvas = Image.new("RGB", (width + _GAP, height + _GAP), "white")
        self._filled = 0

    def add(self, picture: NDArray[np.uint8], text: str) -> None:
        """Put a picture, uint8 ``[H, W, 3]`` RGB, in the next place; of the text, what fits above it is written."""
        row, column = divmod(self._filled, self.columns)
        self._filled += 1
        x = _GAP + column * (self.tile[0] + _GAP)
        y = _GAP + row * (self.tile[1] + _GAP + _STRIP)
        image = Image.fromarray(picture)
        if image.size != self.tile:
            image = image.resize(self.tile, Image.Resampling.BOX)
        draw = ImageDraw.Draw(self._canvas)
        font, shown = font_for(text, _TEXT)
        while shown and draw.textlength(shown, font=font) > self.tile[0]:
            shown = shown[:-1]
        draw.text((x, y), shown, fill=(40, 40, 40), font=font)
        self._canvas.paste(image, (x, y + _STRIP))

    @property
    def picture(self) -> Image.Image:
        """The sheet as it is by now; not a copy."""
        return self._canvas


def _tile_size(size: tuple[int, int], columns: int, rows: int) -> tuple[int, int]:
    """The largest size of a tile, no larger than ``size`` and of its shape, with which the sheet stays in bounds."""
    room = _LONGEST_SIDE - _GAP
    factor = min(
        1.0,
        math.sqrt(_MOST_PIXELS / (columns * rows * size[0] * size[1])),
        (room / columns - _GAP) / size[0],
        (room / rows - _GAP - _STRIP) / size[1],
    )
    return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))
