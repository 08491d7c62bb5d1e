"""Fit an image into a canvas of another shape without changing its proportions.

The same function serves training, cache, prediction and export, and its geometry is integer arithmetic that any
language can repeat (``docs/adr/0004-letterbox-and-coordinates.md``). Sizes are (width, height); coordinates are
continuous: pixel i covers ``[i, i + 1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolo.core.errors import YoloError

GREY = 114

Boxes = TypeVar("Boxes", Tensor, NDArray[np.float32], NDArray[np.float64])


@dataclass(frozen=True)
class LetterboxGeometry:
    """Where a picture lies on its canvas; all sizes are (width, height).

    Attributes:
        source: size of the picture before, pixels.
        target: size of the canvas.
        content: size of the picture on the canvas, at least 1 x 1.
        offset: left and top border, pixels.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    content: tuple[int, int]
    offset: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Canvas pixels per source pixel along x and y, as really drawn (whole pixels: the two may differ a little)."""
        return self.content[0] / self.source[0], self.content[1] / self.source[1]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """float64 ``[3, 3]`` from source to canvas, in continuous coordinates.

        Each axis has its own scale, content over source, so that boxes stay on the pixels they were drawn around; it
        differs from the common scale by less than one canvas pixel over the whole side.
        """
        (x, y), (left, top) = self.scale, self.offset
        return np.array([[x, 0, left], [0, y, top], [0, 0, 1]], dtype=np.float64)


def letterbox_geometry(source_size: tuple[int, int], target_size: tuple[int, int]) -> LetterboxGeometry:
    """Place a picture on a canvas: as large as fits, in the middle (an odd pixel goes to the right or bottom).

    The fitted side has exactly the canvas's length, the other one is rounded down but keeps at least one pixel. All of
    it in integers: ``floor(77 * (640 / 77))`` in floating point would be 639.

    Args:
        source_size: (width, height) of the picture.
        target_size: (width, height) of the canvas.

    Returns:
        The placement.

    Raises:
        YoloError: a side is not positive.
    """
    (width, height), (target_width, target_height) = source_size, target_size
    if min(width, height, target_width, target_height) < 1:
        raise YoloError(
            f"cannot fit a {width}x{height} image into {target_width}x{target_height}: a side is not positive"
        )
    if target_width * height <= target_height * width:
        content = target_width, max(1, target_width * height // width)
    else:
        content = max(1, target_height * width // height), target_height
    offset = (target_width - content[0]) // 2, (target_height - content[1]) // 2
    return LetterboxGeometry((width, height), (target_width, target_height), content, offset)


def letterbox(image: NDArray[np.uint8], target_size: tuple[int, int]) -> tuple[NDArray[np.uint8], LetterboxGeometry]:
    """Draw a picture on a grey canvas.

    Args:
        image: uint8 ``[H, W, 3]``.
        target_size: (width, height) of the canvas.

    Returns:
        The canvas, uint8 ``[target height, target width, 3]`` (never a view of ``image``), bilinear in OpenCV's
        ``INTER_LINEAR`` convention (no antialias), grey 114 around it; and the placement.

    Raises:
        YoloError: the image has no pixels, or a side of the canvas is not positive.
    """
    height, width = image.shape[:2]
    geometry = letterbox_geometry((width, height), target_size)
    content: NDArray[np.uint8] = image
    if geometry.content != geometry.source:
        content = np.asarray(cv2.resize(image, geometry.content, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    canvas = np.full((target_size[1], target_size[0], 3), GREY, dtype=np.uint8)
    left, top = geometry.offset
    canvas[top : top + geometry.content[1], left : left + geometry.content[0]] = content
    return canvas, geometry


def undo_letterbox(
    boxes: Boxes,
    geometry: LetterboxGeometry | None = None,
    *,
    matrix: NDArray[np.float64] | Tensor | None = None,
    source_size: tuple[int, int] | None = None,
) -> Boxes:
    """Take boxes from the canvas back to the picture, clipped to it.

    Args:
        boxes: ``[N, 4]`` xyxy in canvas pixels, a tensor or an array; not changed.
        geometry: the placement; or instead of it:
        matrix: ``[3, 3]`` from source to canvas (a scale and a shift per axis, no rotation), with
        source_size: (width, height) of the picture.

    Returns:
        ``[N, 4]`` xyxy in source pixels, same kind and floating type as ``boxes``.

    Raises:
        ValueError: neither a placement nor a matrix with a size, or a matrix that turns or shears.
    """
    if geometry is not None:
        matrix, source_size = geometry.matrix, geometry.source
    if matrix is None or source_size is None:
        raise ValueError("undo_letterbox needs a geometry, or a matrix with the source size")
    m = np.asarray(matrix, dtype=np.float64)
    if m[0, 1] or m[1, 0] or m[2, 0] or m[2, 1]:
        raise ValueError("undo_letterbox undoes scales and shifts only, this matrix turns, shears or bends")
    scale = [m[0, 0], m[1, 1]] * 2
    shift = [m[0, 2], m[1, 2]] * 2
    limit = [float(side) for side in source_size] * 2
    if isinstance(boxes, Tensor):
        dtype = boxes.dtype if boxes.dtype.is_floating_point else torch.float32
        as_tensor = [torch.tensor(row, dtype=dtype, device=boxes.device) for row in (shift, scale, limit)]
        return torch.minimum(((boxes - as_tensor[0]) / as_tensor[1]).clamp(min=0), as_tensor[2])
    kind = boxes.dtype if boxes.dtype.kind == "f" else np.dtype(np.float32)
    back: Boxes = np.clip((boxes - np.array(shift)) / np.array(scale), 0, np.array(limit)).astype(kind)
    return back
