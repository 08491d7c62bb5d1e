"""The one warp: a source picture straight into its place on the output canvas."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.core.letterbox import GREY
from yolo.data.augment.base import Pixels, Recolour
from yolo.data.augment.geometry import (
    Matrix,
    Rect,
    bounds,
    corners,
    is_axis_aligned,
    map_rect,
    transform_points,
    translation,
)
from yolo.data.augment.resize import resized

Quad = NDArray[np.float64]

#: From continuous coordinates to OpenCV's, in which the middle of the first pixel is 0.
_TO_CENTRES, _FROM_CENTRES = translation(-0.5, -0.5), translation(0.5, 0.5)


def blank(size: tuple[int, int], recolour: Recolour | None = None) -> Pixels:
    """A canvas in grey, or what becomes of it, uint8 ``[H, W, 3]``, for a (width, height)."""
    if recolour is None:
        return np.full((size[1], size[0], 3), GREY, np.uint8)
    pixel = np.full((1, 1, 3), GREY, np.uint8)
    recolour(pixel, pixel)
    canvas = np.empty((size[1], size[0], 3), np.uint8)
    canvas[:] = np.repeat(pixel, size[0], axis=1)  # whole rows are copied faster than pixels
    return canvas


def paint(
    canvas: Pixels,
    image: Pixels,
    matrix: Matrix,
    region: Quad | Rect | None = None,
    recolour: Recolour | None = None,
) -> None:
    """Draw a picture on a canvas, in place, bilinearly (``INTER_LINEAR``, no antialias).

    Exactly the canvas pixels whose middle lies in ``region`` are written; at the border of the picture its outermost
    pixels are continued, as ``cv2.resize`` does. So neighbouring tiles leave no seam.

    Args:
        canvas: uint8 ``[H, W, 3]``.
        image: uint8 ``[h, w, 3]``.
        matrix: ``[3, 3]`` picture to canvas, continuous coordinates.
        region: rectangle, or ``[4, 2]`` corners (going round, convex), in canvas pixels, of a part of the picture; None
            for all of it. Nothing outside it matters, even where a perspective matrix puts the rest of the picture
            behind the eye.
        recolour: changes the colours of what is drawn; the picture given is not written to.
    """
    height, width = image.shape[:2]
    aligned = is_axis_aligned(matrix)
    if region is None:
        whole = (0, 0, width, height)
        region = map_rect(matrix, whole) if aligned else transform_points(matrix, corners(whole))
    box = _pixel_box(region if isinstance(region, tuple) else bounds(region), (canvas.shape[1], canvas.shape[0]))
    if box is None:
        return
    x0, y0, x1, y1 = box
    target = canvas[y0:y1, x0:x1]
    if aligned and (isinstance(region, tuple) or _is_rectangle(region)):
        if not resized(image, matrix, (x0, y0), target, recolour):
            _warp(image, matrix, (x0, y0), target)
            if recolour is not None:
                recolour(target, target)
        return
    mask = _inside(corners(region) if isinstance(region, tuple) else region, box)
    drawn = np.empty_like(target, order="C")
    _warp(image, matrix, (x0, y0), drawn)
    if recolour is not None:
        recolour(drawn, drawn)
    cv2.copyTo(drawn, mask, target)


def _warp(image: Pixels, matrix: Matrix, origin: tuple[int, int], target: Pixels) -> None:
    """Warp into ``target``, a part of the canvas whose first pixel is ``origin``."""
    local = _TO_CENTRES @ translation(-origin[0], -origin[1]) @ matrix @ _FROM_CENTRES
    size = (target.shape[1], target.shape[0])
    if matrix[2, 0] or matrix[2, 1]:
        cv2.warpPerspective(image, local, size, target, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    else:
        cv2.warpAffine(image, local[:2] / local[2, 2], size, target, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)


def _pixel_box(rect: Rect, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The pixels whose middle lies in a rectangle and in the canvas, or None when there are none."""
    x0, y0 = max(0, math.ceil(rect[0] - 0.5)), max(0, math.ceil(rect[1] - 0.5))
    x1, y1 = min(size[0], math.ceil(rect[2] - 0.5)), min(size[1], math.ceil(rect[3] - 0.5))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _is_rectangle(quad: Quad) -> bool:
    x0, y0, x1, y1 = bounds(quad)
    return bool(((quad == (x0, y0)) | (quad == (x1, y1))).all())


def _inside(quad: Quad, box: tuple[int, int, int, int]) -> Pixels:
    """Mask ``[h, w]`` (255 or 0) of the pixels of ``box`` whose middle lies in a convex quadrilateral."""
    x0, y0, x1, y1 = box
    low, high = _span(quad, np.arange(y0, y1, dtype=np.float64) + 0.5)
    columns = np.arange(x0, x1) + 0.5
    mask = (columns >= low[:, None]) & (columns < high[:, None])
    return mask.view(np.uint8) * np.uint8(255)


def _span(quad: Quad, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each horizontal line enters and leaves a convex quadrilateral (inf, -inf where it does not)."""
    x, y = quad[:, :1], quad[:, 1:]
    next_x, next_y = np.roll(x, -1, 0), np.roll(y, -1, 0)
    crosses = (np.minimum(y, next_y) <= rows) & (rows < np.maximum(y, next_y))
    rise = np.where(next_y == y, 1.0, next_y - y)
    at = x + (rows - y) / rise * (next_x - x)
    return np.where(crosses, at, np.inf).min(0), np.where(crosses, at, -np.inf).max(0)
