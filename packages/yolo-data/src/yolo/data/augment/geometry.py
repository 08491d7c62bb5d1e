"""3x3 matrices on continuous pixel coordinates (pixel i covers ``[i, i + 1)``), and what they do to boxes.

Points are column vectors ``[x, y, 1]``, so ``a @ b`` does ``b`` first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yolo.data.types import Targets

Matrix = NDArray[np.float64]
Rect = tuple[float, float, float, float]

MIN_SIDE = 2.0
MIN_VISIBLE = 0.1
MAX_ASPECT = 100.0


def translation(x: float, y: float) -> Matrix:
    """Move by (x, y) pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def scaling(x: float, y: float) -> Matrix:
    """Stretch about the origin."""
    return np.array([[x, 0, 0], [0, y, 0], [0, 0, 1]], np.float64)


def rotation(degrees: float) -> Matrix:
    """Turn about the origin, clockwise as seen on the screen (y points down)."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float64)


def shearing(x_degrees: float, y_degrees: float) -> Matrix:
    """Slant: x grows with y by ``tan(x_degrees)``, and y with x by ``tan(y_degrees)``."""
    x, y = np.tan(np.deg2rad([x_degrees, y_degrees]))
    return np.array([[1, x, 0], [y, 1, 0], [0, 0, 1]], np.float64)


def upright(matrix: Matrix) -> tuple[float, float, float, float] | None:
    """(x factor, x shift, y factor, y shift) of a matrix that only scales and moves, else None."""
    (a, b, x), (c, d, y), (p, q, one) = matrix.tolist()  # a few numbers: plain arithmetic is ten times as fast
    return None if b or c or p or q else (a / one, x / one, d / one, y / one)


def is_axis_aligned(matrix: Matrix) -> bool:
    """Whether the matrix only scales and moves, so that rectangles stay rectangles."""
    return not (matrix[0, 1] or matrix[1, 0] or matrix[2, 0] or matrix[2, 1])


def transform_points(matrix: Matrix, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map points ``[N, 2]``, with the division of a projective matrix."""
    mapped = points @ matrix[:2, :2].T + matrix[:2, 2]
    if matrix[2, 0] or matrix[2, 1] or matrix[2, 2] != 1:
        mapped = mapped / (points @ matrix[2, :2] + matrix[2, 2])[:, None]
    return np.asarray(mapped, np.float64)


def corners(rect: Rect) -> NDArray[np.float64]:
    """The corners ``[4, 2]`` of a rectangle, going round."""
    x0, y0, x1, y1 = rect
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)


def bounds(points: NDArray[np.floating]) -> Rect:
    """The smallest rectangle around points ``[N, 2]``."""
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def map_rect(matrix: Matrix, rect: Rect) -> Rect:
    """The smallest rectangle around a mapped rectangle."""
    plain = upright(matrix)
    if plain is None:
        return bounds(transform_points(matrix, corners(rect)))
    a, x, b, y = plain
    xs, ys = (a * rect[0] + x, a * rect[2] + x), (b * rect[1] + y, b * rect[3] + y)
    return min(xs), min(ys), max(xs), max(ys)


def transform_boxes(matrix: Matrix, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map xyxy boxes ``[N, 4]`` to the axis-aligned boxes around their mapped corners.

    Args:
        matrix: ``[3, 3]``, or one for each box ``[N, 3, 3]``.
        boxes: ``[N, 4]``.
    """
    last = matrix[..., 2, :]
    if not (matrix[..., 0, 1].any() or matrix[..., 1, 0].any() or last[..., :2].any()):
        factors = np.diagonal(matrix[..., :2, :2], axis1=-2, axis2=-1) / last[..., 2:]
        shift = matrix[..., :2, 2] / last[..., 2:]
        ends = boxes.reshape(-1, 2, 2) * factors[..., None, :] + shift[..., None, :]
        return np.concatenate([ends.min(1), ends.max(1)], axis=1)
    quads = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float64)
    mapped = quads @ np.swapaxes(matrix[..., :2, :2], -1, -2) + matrix[..., None, :2, 2]
    if last[..., :2].any() or (last[..., 2] != 1).any():
        mapped = mapped / (quads @ last[..., :2, None] + last[..., None, 2:])
    return np.concatenate([mapped.min(1), mapped.max(1)], axis=1)


def clip_boxes(boxes: NDArray[np.floating], rect: Rect) -> NDArray[np.float64]:
    """Cut xyxy boxes ``[N, 4]`` to a rectangle; one that lies outside gets no area."""
    low, high = np.array(rect[:2] * 2, np.float64), np.array(rect[2:] * 2, np.float64)
    return np.clip(np.asarray(boxes, np.float64), low, high)


def area(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Areas ``[N]`` of xyxy boxes."""
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), np.float64)


def worth_keeping(visible: NDArray[np.floating], whole: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which boxes are still worth a label after cutting.

    Args:
        visible: ``[N, 4]`` xyxy boxes as cut.
        whole: ``[N, 4]`` the same boxes in the same frame, uncut. Comparing within one frame is the point: against the
            area before scaling, every shrunk box would look invisible.

    Returns:
        bool ``[N]``: both sides at least 2 pixels, more than a tenth of the area visible, sides at most 100 : 1.
    """
    width, height = visible[:, 2] - visible[:, 0], visible[:, 3] - visible[:, 1]
    short, long = np.minimum(width, height), np.maximum(width, height)
    seen = area(visible) > MIN_VISIBLE * area(whole)
    return np.asarray((short >= MIN_SIDE) & seen & (long < MAX_ASPECT * short), np.bool_)


def move_targets(targets: Targets, matrix: Matrix, size: tuple[int, int]) -> Targets:
    """Map targets into a canvas of ``size`` (width, height), cut them to it, drop those not worth keeping."""
    whole = transform_boxes(matrix, targets.boxes)
    cut = clip_boxes(whole, (0, 0, *size))
    keep = worth_keeping(cut, whole)
    return Targets(cut[keep].astype(np.float32), targets.labels[keep])
