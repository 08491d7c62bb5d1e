"""Overlap of boxes: IoU (pairwise) and Complete IoU (elementwise)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

EPS = 1e-7


class Sides(NamedTuple):
    """Boxes as separate coordinates of any one shape, with the angle of their aspect ratio, ``atan(width / height)``.

    Where one box meets many others, its angle is computed once and not once per pair.
    """

    x1: Tensor
    y1: Tensor
    x2: Tensor
    y2: Tensor
    angle: Tensor

    @staticmethod
    def of(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Sides:
        """Add the angle to four coordinates."""
        return Sides(x1, y1, x2, y2, torch.atan((x2 - x1) / (y2 - y1 + EPS)))

    def at(self, index: Tensor) -> Sides:
        """Pick flat boxes by an index of any shape."""
        return Sides(*(part[index] for part in self))

    def column(self) -> Sides:
        """``[R]`` to ``[R, 1]``, to meet ``[R, K]``."""
        return Sides(*(part[:, None] for part in self))


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every box of one set with every box of another.

    Args:
        first: ``[N, 4]`` xyxy.
        second: ``[M, 4]`` xyxy, same frame.

    Returns:
        ``[N, M]`` in [0, 1]; 0 where both boxes are empty.
    """
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - overlap
    positive = union > 0
    return (overlap / torch.where(positive, union, 1)).where(positive, 0).clamp(max=1)


def ciou(first: Tensor, second: Tensor) -> Tensor:
    """Complete IoU of matching rows (Zheng et al., Distance-IoU Loss, arXiv:1911.08287, section 3.3).

    IoU less the squared distance of the centres over the squared diagonal of the enclosing box, less an aspect term
    whose trade-off weight is a constant for the gradient, as the paper says. Heights are enlarged by 1e-7, and so are
    the denominators (the published YOLOv9's numbers). Elementwise on purpose: never build all pairs to read their
    diagonal.

    Args:
        first: ``[..., 4]`` xyxy.
        second: ``[..., 4]`` xyxy, same frame, broadcasts against ``first``.

    Returns:
        ``[...]`` in about (-1.5, 1].
    """
    return ciou_of_sides(Sides.of(*first.unbind(-1)), Sides.of(*second.unbind(-1)))


def ciou_of_sides(a: Sides, b: Sides) -> Tensor:
    """:func:`ciou` of boxes whose coordinates are kept apart; the shapes broadcast."""
    across = (torch.minimum(a.x2, b.x2) - torch.maximum(a.x1, b.x1)).clamp(min=0)
    down = (torch.minimum(a.y2, b.y2) - torch.maximum(a.y1, b.y1)).clamp(min=0)
    overlap = across * down
    areas = (a.x2 - a.x1) * (a.y2 - a.y1 + EPS) + (b.x2 - b.x1) * (b.y2 - b.y1 + EPS)
    iou = overlap / (areas - overlap + EPS)

    hull_width = torch.maximum(a.x2, b.x2) - torch.minimum(a.x1, b.x1)
    hull_height = torch.maximum(a.y2, b.y2) - torch.minimum(a.y1, b.y1)
    diagonal = hull_width.square() + hull_height.square() + EPS
    distance = ((b.x1 + b.x2 - a.x1 - a.x2).square() + (b.y1 + b.y2 - a.y1 - a.y2).square()) / 4
    aspect = (4 / math.pi**2) * (b.angle - a.angle).square()
    with torch.no_grad():
        weight = aspect / (aspect - iou + (1 + EPS))
    return iou - (distance / diagonal + aspect * weight)
