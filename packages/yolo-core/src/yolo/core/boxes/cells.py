"""Single cells of feature maps, read and written in whatever order the map lies in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def dense_cells(feature_map: Tensor) -> Tensor:
    """``[B, C, h, w]`` as ``[B, C, h * w]``: a view for contiguous and for channels-last maps, else a copy."""
    cells = feature_map.flatten(2)
    if cells.is_contiguous() or cells.transpose(1, 2).is_contiguous():
        return cells
    return cells.contiguous()


def memory_order(cells: Tensor) -> Tensor:
    """All numbers of :func:`dense_cells` as one flat view, in the order of memory."""
    return cells.view(-1) if cells.is_contiguous() else cells.transpose(1, 2).reshape(-1)


def memory_index(cells: Tensor, image: Tensor, channel: Tensor, cell: Tensor) -> Tensor:
    """Positions in :func:`memory_order` of single numbers; the index tensors broadcast."""
    step = cells.stride()
    return image * step[0] + channel * step[1] + cell * step[2]


class _Gather(torch.autograd.Function):
    """Columns of cells, whose gradient is written back without the sorting that repeated cells would need."""

    @staticmethod
    def forward(ctx: Any, feature_map: Tensor, image: Tensor, cell: Tensor) -> Tensor:
        ctx.save_for_backward(image, cell)
        ctx.like = torch.empty_like(feature_map, device="meta")
        return feature_map.flatten(2)[image, :, cell]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        image, cell = ctx.saved_tensors
        whole = torch.zeros_like(ctx.like, device=grad.device)
        whole.flatten(2)[image, :, cell] = grad
        return whole, None, None


def gather_cells(feature_map: Tensor, image: Tensor, cell: Tensor) -> Tensor:
    """All channels of some cells, differentiably.

    Args:
        feature_map: ``[B, C, h, w]``.
        image: int64 ``[P]``.
        cell: int64 ``[P]``, ``y * w + x``; no (image, cell) pair may appear twice.

    Returns:
        ``[P, C]``. The gradient of the map is zero elsewhere and exists even for ``P = 0``.
    """
    gathered: Tensor = _Gather.apply(feature_map, image, cell)
    return gathered
