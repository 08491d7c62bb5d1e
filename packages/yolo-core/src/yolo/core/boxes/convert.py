"""Box layouts: corners and centre with size."""

from __future__ import annotations

import torch
from torch import Tensor


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners to centre and size.

    Args:
        boxes: ``[..., 4]`` x1, y1, x2, y2 in any frame.

    Returns:
        ``[..., 4]`` centre x, centre y, width, height in the same frame.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size to corners; the inverse of :func:`xyxy_to_cxcywh`.

    Args:
        boxes: ``[..., 4]`` centre x, centre y, width, height in any frame.

    Returns:
        ``[..., 4]`` x1, y1, x2, y2 in the same frame.
    """
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), dim=-1)
