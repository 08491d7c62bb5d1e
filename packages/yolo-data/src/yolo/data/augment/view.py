"""How the output canvas sees a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from yolo.data.augment.geometry import Matrix, Rect, corners, map_rect, transform_points, upright


@dataclass(frozen=True)
class View:
    """How the output canvas sees a scene.

    Attributes:
        matrix: ``[3, 3]`` scene to canvas.
        size: width and height of the canvas.
        whole_pixels: whether pictures that are upright are placed on whole pixels, see :meth:`place`.
    """

    matrix: Matrix
    size: tuple[int, int]
    whole_pixels: bool = False

    def place(self, matrix: Matrix, size: tuple[int, int]) -> Matrix:
        """The matrix ``[3, 3]`` from a picture to the canvas.

        With ``whole_pixels``, each edge of an upright picture is moved to the nearest edge of a canvas pixel, as a
        letterbox has it too: drawing is then a resize, four times as fast as a warp (:mod:`yolo.data.augment.resize`).

        Args:
            matrix: ``[3, 3]`` picture to scene.
            size: width and height of the picture.
        """
        if not self.whole_pixels or upright(self.matrix) is None or upright(matrix) is None:
            return self.matrix @ matrix
        x0, y0, x1, y1 = map_rect(self.matrix, map_rect(matrix, (0, 0, *size)))
        left, top = _nearest(x0), _nearest(y0)
        width, height = max(1, _nearest(x1) - left), max(1, _nearest(y1) - top)
        return np.array([[width / size[0], 0, left], [0, height / size[1], top], [0, 0, 1]], np.float64)

    def shows(self, rect: Rect) -> bool:
        """Whether any of a rectangle of the scene can be seen (a file that cannot need not be read)."""
        x0, y0, x1, y1 = map_rect(self.matrix, rect)
        return x1 > 0 and y1 > 0 and x0 < self.size[0] and y0 < self.size[1]

    @staticmethod
    def least(placed: Matrix, size: tuple[int, int], part: Rect | None = None) -> tuple[int, int]:
        """How large the whole of a picture would be at the scale at which it appears: what a decoder has to give.

        Args:
            placed: ``[3, 3]`` source to canvas, from :meth:`place`.
            size: width and height of the source.
            part: rectangle of the source that may be shown; None for all of it.

        Returns:
            (width, height) in canvas pixels, rounded up.
        """
        x, y = _scales(placed, part or (0, 0, *size))
        return max(1, math.ceil(size[0] * x - 1e-6)), max(1, math.ceil(size[1] * y - 1e-6))

    def rows(self, placed: Matrix, size: tuple[int, int], shown: Rect) -> int:
        """How many rows of a picture, counted from its top, are looked at.

        Args:
            placed: ``[3, 3]`` picture to canvas, from :meth:`place`.
            size: width and height of the picture.
            shown: rectangle of the scene outside which nothing of it is shown.
        """
        plain = upright(placed)
        if plain is None or plain[2] <= 0:
            return size[1]
        bottom = min(map_rect(self.matrix, shown)[3], self.size[1]) + 0.5  # to whole pixels
        return min(size[1], math.ceil((bottom - plain[3]) / plain[2]) + 1)

    def scale_of(self, matrix: Matrix, part: Rect) -> tuple[float, float]:
        """Canvas pixels a source pixel, along the source's x and y: the most within ``part`` (see :meth:`least`)."""
        return _scales(self.matrix @ matrix, part)


def _scales(total: Matrix, part: Rect) -> tuple[float, float]:
    if not (total[2, 0] or total[2, 1]):
        (a, b, _), (c, d, _), (_, _, one) = total.tolist()
        return math.hypot(a, c) / one, math.hypot(b, d) / one
    points = corners(part)
    depth = (points @ total[2, :2] + total[2, 2])[:, None]
    mapped = transform_points(total, points)
    # The derivative of a homography: (row of the matrix - mapped coordinate * last row) / depth.
    along_x = (total[:2, 0] - mapped * total[2, 0]) / depth
    along_y = (total[:2, 1] - mapped * total[2, 1]) / depth
    return float(np.hypot(*along_x.T).max()), float(np.hypot(*along_y.T).max())


def _nearest(at: float) -> int:
    """The pixel edge nearest to a coordinate: the first pixel whose middle is not before it begins there."""
    return math.ceil(at - 0.5)
