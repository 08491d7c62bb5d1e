"""The quick case of a warp: where a picture's edges fall on pixel edges, it is a ``cv2.resize``, four times as fast.

``cv2.resize`` maps the edge of the picture to the edge of the output, whatever the factor, and so does a matrix that
puts the left or the right edge (and the upper or the lower one) on whole pixels; from the right it is the same thing
seen in a mirror. :meth:`yolo.data.augment.view.View.place` puts pictures there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from yolo.data.augment.base import Pixels, Recolour
from yolo.data.augment.geometry import Matrix

_TOLERANCE = 1e-5  # pixels by which an edge may be off a pixel edge
_MIRRORING = 0.4  # what mirroring costs, in output pixels made by a resize
_WASTE = 3.0  # so many times the wanted pixels may be made and thrown away, and it is still quicker


@dataclass(frozen=True)
class _Axis:
    """One axis of a resize, after mirroring.

    Attributes:
        factor: output pixels a source pixel.
        mirrored: whether it is counted from the far edge.
        skip: output pixels before the wanted ones.
        count: wanted output pixels.
        part: source pixels to take.
    """

    factor: float
    mirrored: bool
    skip: int
    count: int
    part: slice

    def all_wanted(self) -> bool:
        """Whether ``cv2.resize`` makes exactly the wanted pixels (it rounds as Python does)."""
        return self.skip == 0 and round((self.part.stop - self.part.start) * self.factor) == self.count


def resized(
    image: Pixels, matrix: Matrix, origin: tuple[int, int], target: Pixels, recolour: Recolour | None = None
) -> bool:
    """Draw a picture by ``cv2.resize`` if that is the same as a bilinear warp.

    Args:
        image: uint8 ``[h, w, 3]``.
        matrix: ``[3, 3]`` picture to canvas, scaling and moving only, continuous coordinates.
        origin: the canvas pixel that is the first one of ``target``.
        target: uint8 ``[H, W, 3]``, a part of the canvas; written to.
        recolour: changes colours, of whichever are fewer: the pixels that are looked at, or those that are drawn.

    Returns:
        Whether it was drawn; if not, ``target`` is as it was.
    """
    (x_factor, _, x_start), (_, y_factor, y_start), _ = (matrix / matrix[2, 2]).tolist()
    x = _axis(x_factor, x_start, image.shape[1], origin[0], target.shape[1])
    y = _axis(y_factor, y_start, image.shape[0], origin[1], target.shape[0])
    if x is None or y is None or (x.skip + x.count) * (y.skip + y.count) > _WASTE * x.count * y.count:
        return False
    source = image[y.part, x.part]
    early = recolour is not None and source.size < target.size
    if recolour is not None and early:
        changed = np.empty_like(source, order="C")
        recolour(source, changed)
        source = changed
    if not _stretched(source, x, y, target):
        return False
    if recolour is not None and not early:
        recolour(target, target)
    return True


def _stretched(source: cv2.typing.MatLike, x: _Axis, y: _Axis, target: Pixels) -> bool:
    mirror = _MIRROR[x.mirrored, y.mirrored]
    if mirror is not None:
        source = cv2.flip(source, mirror)
    if mirror is None and x.all_wanted() and y.all_wanted():  # no copy is needed
        cv2.resize(source, None, target, x.factor, y.factor, cv2.INTER_LINEAR)
        return True
    made = cv2.resize(source, None, None, x.factor, y.factor, cv2.INTER_LINEAR)
    made = made[y.skip : y.skip + y.count, x.skip : x.skip + x.count]
    below, right = y.count - made.shape[0], x.count - made.shape[1]
    if below or right:  # the last pixel's middle lies on the picture's edge, to within rounding
        if below > 1 or right > 1 or 0 in made.shape:
            return False
        made = cv2.copyMakeBorder(made, 0, below, 0, right, cv2.BORDER_REPLICATE)
    if mirror is None:
        target[:] = made
    else:
        cv2.flip(made, mirror, target)
    return True


#: OpenCV's code for a mirror image by (mirrored in x, mirrored in y).
_MIRROR = {(False, False): None, (True, False): 1, (False, True): 0, (True, True): -1}


def _axis(factor: float, start: float, side: int, first: int, count: int) -> _Axis | None:
    """Plan one axis, None when neither edge of the picture falls on a pixel edge.

    Args:
        factor: output pixels a source pixel.
        start: where the near edge of the picture falls.
        side: source pixels.
        first: wanted output pixel.
        count: of wanted output pixels.
    """
    if factor <= 0:
        return None
    end = start + factor * side
    near, far = round(start), round(end)
    skips: list[tuple[float, bool]] = []
    if abs(start - near) < _TOLERANCE and first >= near:
        skips.append((first - near, False))
    if abs(end - far) < _TOLERANCE and first + count <= far:
        skips.append((far - first - count + _MIRRORING * count, True))
    if not skips:
        return None
    mirrored = min(skips)[1]
    skip = far - first - count if mirrored else first - near
    needed = min(side, math.ceil((skip + count) / factor) + 1)
    return _Axis(factor, mirrored, skip, count, slice(side - needed, side) if mirrored else slice(0, needed))
