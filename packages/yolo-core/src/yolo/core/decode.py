"""From raw predictions to boxes in pixels and probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from yolo.core.boxes.grid import make_grid
from yolo.core.outputs import BranchOutput


@dataclass(frozen=True)
class Flat:
    """Raw predictions with all scales in one list (anchors by scale, then row by row).

    Attributes:
        cls: ``[B, A, C]`` class logits.
        dist: ``[B, A, 4, bins]`` logits of the distance bins, sides left, top, right, bottom.
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
    """Height and width in cells of every scale."""
    return [(int(scale.shape[-2]), int(scale.shape[-1])) for scale in branch.cls]


def flatten(branch: BranchOutput) -> Flat:
    """Join the scales of a branch; copies, keeps type and gradient."""
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


def decode_boxes(branch: BranchOutput) -> Tensor:
    """Boxes of all anchors: each side is its expected distance from the anchor point.

    Args:
        branch: raw predictions.

    Returns:
        float32 (float64 for float64 logits) ``[B, 4, A]``, x1, y1, x2, y2 in pixels of the network's input. Sides come
        first: that is the order of the raw predictions, so nothing is copied.
    """
    dtype = torch.promote_types(branch.dist[0].dtype, torch.float32)
    grid = make_grid(branch_shapes(branch), branch.strides, branch.dist[0].device, dtype)
    sides = torch.cat([expected_distances(_by_side(scale.to(dtype).flatten(2)), dim=2) for scale in branch.dist], dim=2)
    centers, strides = grid.centers.t(), grid.strides
    return torch.cat((centers - sides[:, :2] * strides, centers + sides[:, 2:] * strides), dim=1)


def decode(branch: BranchOutput) -> Decoded:
    """Boxes and probabilities of all anchors, in float32.

    Args:
        branch: raw predictions of any floating type.

    Returns:
        Boxes in pixels of the network's input and class probabilities, anchors by scale, then row by row.
    """
    cls = torch.cat([scale.flatten(2) for scale in branch.cls], dim=2)
    cls = cls.to(torch.promote_types(cls.dtype, torch.float32))
    return Decoded(decode_boxes(branch).transpose(1, 2), cls.transpose(1, 2).sigmoid())
