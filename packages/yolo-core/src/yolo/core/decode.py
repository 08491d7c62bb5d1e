"""From raw predictions to boxes in pixels and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolo.core.boxes.grid import make_grid
from yolo.core.outputs import BranchOutput


@dataclass(frozen=True)
class Flat:
    """Raw predictions with all maps in one list (anchors by map, then row by row).

    Attributes:
        cls: ``[B, A, C]`` class logits.
        dist: ``[B, A, 4, bins]`` logits of the distance bins, sides left, top, right, bottom; of a head with anchor
            boxes ``[B, A, 4, 1]``, logits of centre x, centre y, width and height.
    """

    cls: Tensor
    dist: Tensor


@dataclass(frozen=True)
class Decoded:
    """Predictions in user terms.

    Attributes:
        boxes: ``[B, A, 4]`` xyxy, pixels of the network's input, not clipped.
        scores: ``[B, A, C]`` probabilities.
    """

    boxes: Tensor
    scores: Tensor


def branch_shapes(branch: BranchOutput) -> list[tuple[int, int]]:
    """Height and width in cells of every map."""
    return [(int(scale.shape[-2]), int(scale.shape[-1])) for scale in branch.cls]


def flatten(branch: BranchOutput) -> Flat:
    """Join the maps of a branch; copies, keeps type and gradient."""
    cls = torch.cat([scale.flatten(2) for scale in branch.cls], dim=2)
    dist = torch.cat([scale.flatten(2) for scale in branch.dist], dim=2)
    return Flat(cls.transpose(1, 2), _by_side(dist).permute(0, 3, 1, 2))


def _by_side(dist: Tensor) -> Tensor:
    """``[B, 4 * bins, A]`` as ``[B, 4, bins, A]``."""
    batch, channels, anchors = dist.shape
    return dist.reshape(batch, 4, channels // 4, anchors)


def expected_distances(logits: Tensor, *, dim: int = -1) -> Tensor:
    """Mean of the distribution over distance bins (Generalized Focal Loss, arXiv:2006.04388, equation 3).

    Args:
        logits: any shape; ``dim`` runs over the bins 0, 1, 2, ...
        dim: the dimension of the bins.

    Returns:
        The shape of ``logits`` without ``dim``: distances in strides.
    """
    bins = torch.arange(logits.shape[dim], dtype=logits.dtype, device=logits.device)
    shape = [1] * logits.ndim
    shape[dim] = -1
    return (logits.softmax(dim) * bins.view(shape)).sum(dim)


def anchor_boxes(logits: Tensor, centers: Tensor, strides: Tensor, anchors: Tensor) -> Tensor:
    """Boxes from anchor boxes, in the form of the published YOLOv7 (arXiv:2207.02696).

    The centre lies at most one cell from the middle of the cell, ``centre + (2 sigmoid - 1) * stride``; the sides are
    up to four times the anchor's, ``(2 sigmoid)^2 * anchor``.

    Args:
        logits: ``[..., 4, A]`` of centre x, centre y, width and height.
        centers: ``[2, A]`` x, y of the middles of the cells, in any unit.
        strides: ``[A]`` sides of the cells, in that unit.
        anchors: ``[2, A]`` width, height of the anchor boxes, in that unit.

    Returns:
        ``[..., 4, A]`` x1, y1, x2, y2 in that unit.
    """
    twice = 2 * logits.sigmoid()
    middle = centers + (twice[..., :2, :] - 1) * strides
    half = twice[..., 2:, :].square() * (anchors / 2)
    return torch.cat((middle - half, middle + half), dim=-2)


def spread_anchors(anchors: Sequence[tuple[float, float]], shapes: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    """Anchor box of every prediction: ``[2, A]`` width, height in pixels, with the device and type of ``like``.

    Args:
        anchors: (width, height) per map.
        shapes: (height, width) of the maps in cells.
        like: any tensor.
    """
    sizes = like.new_tensor(anchors).unbind()  # one copy to the device
    return torch.cat([size[:, None].expand(2, h * w) for size, (h, w) in zip(sizes, shapes, strict=True)], dim=1)


def decode_boxes(branch: BranchOutput) -> Tensor:
    """Boxes of all anchors: each side is its expected distance from the anchor point, or see :func:`anchor_boxes`.

    Args:
        branch: raw predictions.

    Returns:
        float32 (float64 for float64 logits) ``[B, 4, A]``, x1, y1, x2, y2 in pixels of the network's input. Sides come
        first: that is the order of the raw predictions, so nothing is copied.
    """
    dtype = torch.promote_types(branch.dist[0].dtype, torch.float32)
    shapes = branch_shapes(branch)
    grid = make_grid(shapes, branch.strides, branch.dist[0].device, dtype)
    if branch.anchors is not None:
        logits = torch.cat([scale.flatten(2).to(dtype) for scale in branch.dist], dim=2)
        return anchor_boxes(logits, grid.centers.t(), grid.strides, spread_anchors(branch.anchors, shapes, logits))
    sides = torch.cat([expected_distances(_by_side(scale.to(dtype).flatten(2)), dim=2) for scale in branch.dist], dim=2)
    centers, strides = grid.centers.t(), grid.strides
    return torch.cat((centers - sides[:, :2] * strides, centers + sides[:, 2:] * strides), dim=1)


def decode(branch: BranchOutput) -> Decoded:
    """Boxes and probabilities of all anchors, in float32.

    Args:
        branch: raw predictions of any floating type.

    Returns:
        Boxes in pixels of the network's input and class probabilities, anchors by map, then row by row.
    """
    cls = _rows(branch.cls)
    cls = cls.to(torch.promote_types(cls.dtype, torch.float32))
    return Decoded(decode_boxes(branch).transpose(1, 2), cls.sigmoid())


def _rows(maps: Sequence[Tensor]) -> Tensor:
    """``[B, A, C]`` of maps ``[B, C, H, W]``, in the order that they have in memory: to change it takes longer."""
    if all(scale.is_contiguous(memory_format=torch.channels_last) for scale in maps):
        return torch.cat([scale.permute(0, 2, 3, 1).flatten(1, 2) for scale in maps], dim=1)
    return torch.cat([scale.flatten(2) for scale in maps], dim=2).transpose(1, 2)
