"""The anchor points of a prediction: one per cell of every scale."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_KEEP = 32  # multi-scale training and rectangular validation cycle through a few sizes
_cache: OrderedDict[tuple[object, ...], AnchorGrid] = OrderedDict()


@dataclass(frozen=True)
class AnchorGrid:
    """Anchor points, scale by scale, each scale row by row.

    Attributes:
        centers: ``[A, 2]`` x, y in pixels of the network's input: ``(index + 0.5) * stride``.
        strides: ``[A]`` pixels per cell.
    """

    centers: Tensor
    strides: Tensor


def make_grid(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> AnchorGrid:
    """Anchor points of feature maps.

    Args:
        shapes: (height, width) of each scale in cells, fine to coarse.
        strides: pixels per cell of each scale.
        device: where the tensors live.
        dtype: floating type; float32 is exact for any real image.

    Returns:
        A grid shared between calls: do not write into it.

    Raises:
        ValueError: the numbers of shapes and strides differ.
    """
    if len(shapes) != len(strides):
        raise ValueError(f"{len(shapes)} feature maps, but {len(strides)} strides")
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return _build(shapes, strides, device, dtype)
    key = (tuple(map(tuple, shapes)), tuple(strides), str(device), dtype)
    grid = _cache.get(key)
    if grid is None:
        # A tensor made in inference mode could not take part in training later.
        with torch.inference_mode(False):
            grid = _build(shapes, strides, device, dtype)
        if type(grid.centers) is not Tensor:  # a fake tensor of some tracer: its own business
            return grid
        _cache[key] = grid
        if len(_cache) > _KEEP:
            _cache.popitem(last=False)
    return grid


def _build(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device | str | None, dtype: torch.dtype
) -> AnchorGrid:
    centers, sizes = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        x = (torch.arange(width, device=device, dtype=dtype) + 0.5) * stride
        y = (torch.arange(height, device=device, dtype=dtype) + 0.5) * stride
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        centers.append(torch.stack((columns, rows), dim=-1).reshape(-1, 2))
        sizes.append(torch.full((height * width,), float(stride), device=device, dtype=dtype))
    return AnchorGrid(torch.cat(centers), torch.cat(sizes))
