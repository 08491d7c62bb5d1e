"""Class losses over all anchors and classes, whose soft targets are zero nearly everywhere.

A loss is told as two elementwise functions: what a logit costs with target 0, and what the few positives cost. The sum
over the maps is made block by block from the logits alone, so that neither targets nor intermediate values of the size
of the predictions exist; the only big thing made is the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from yolo.core.boxes.cells import dense_cells, memory_order

_BLOCK = {"cpu": 1 << 19, "cuda": 1 << 24}


class ClassLoss(Protocol):
    """One elementwise loss on logits; every method maps tensors to a tensor of the same shape, in float32 or better."""

    def background(self, logits: Tensor) -> Tensor:
        """Loss with target 0."""

    def background_slope(self, logits: Tensor) -> Tensor:
        """Derivative of :meth:`background`."""

    def positive(self, logits: Tensor, scores: Tensor) -> Tensor:
        """Loss with soft targets."""

    def positive_slope(self, logits: Tensor, scores: Tensor) -> Tensor:
        """Derivative of :meth:`positive` by the logits."""


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Cross entropy of a sigmoid with a soft target."""

    def background(self, logits: Tensor) -> Tensor:
        """-log(1 - p)."""
        return softplus(logits)

    def background_slope(self, logits: Tensor) -> Tensor:
        """The probability p."""
        return logits.sigmoid()

    def positive(self, logits: Tensor, scores: Tensor) -> Tensor:
        """-q log p - (1 - q) log(1 - p)."""
        return softplus(logits) - logits * scores

    def positive_slope(self, logits: Tensor, scores: Tensor) -> Tensor:
        """The difference p - q."""
        return logits.sigmoid() - scores


@dataclass(frozen=True)
class Varifocal:
    """Varifocal loss (Zhang et al., VarifocalNet, arXiv:2008.13367, equation 2).

    Attributes:
        alpha: weight of negatives.
        gamma: focusing exponent of negatives.
    """

    alpha: float = 0.75
    gamma: float = 2.0

    def background(self, logits: Tensor) -> Tensor:
        """-alpha p^gamma log(1 - p)."""
        return self.alpha * logits.sigmoid().pow(self.gamma) * softplus(logits)

    def background_slope(self, logits: Tensor) -> Tensor:
        """Derivative, the weight p^gamma included."""
        p = logits.sigmoid()
        return self.alpha * p.pow(self.gamma) * (self.gamma * (1 - p) * softplus(logits) + p)

    def positive(self, logits: Tensor, scores: Tensor) -> Tensor:
        """Cross entropy weighted by the target; a target of 0 is a negative."""
        value = scores * (softplus(logits) - logits * scores)
        return value.where(scores > 0, self.background(logits))

    def positive_slope(self, logits: Tensor, scores: Tensor) -> Tensor:
        """Derivative; a target of 0 is a negative."""
        return (scores * (logits.sigmoid() - scores)).where(scores > 0, self.background_slope(logits))


def class_loss_sum(
    rule: ClassLoss, logits: Sequence[Tensor], positions: Sequence[Tensor], scores: Sequence[Tensor]
) -> Tensor:
    """Sum of a class loss over everything.

    Args:
        rule: the elementwise loss.
        logits: per scale ``[B, C, h, w]``, any floating type.
        positions: per scale, where in ``memory_order(dense_cells(scale))`` the positives are; int64, each at most once.
        scores: per scale, the soft targets of the positives.

    Returns:
        A scalar in float32 (float64 for float64 logits). Every logit gets a gradient.
    """
    parts = zip(logits, positions, scores, strict=True)
    sums = [_Sum.apply(rule, *part) for part in parts]
    return torch.stack(sums).sum()


class _Sum(torch.autograd.Function):
    """Sum over one scale; keeps the logits only."""

    @staticmethod
    def forward(ctx: Any, rule: ClassLoss, logits: Tensor, position: Tensor, score: Tensor) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward(logits, position, score)
        flat = memory_order(dense_cells(logits))
        at = _wide(flat[position])
        total = (rule.positive(at, score) - rule.background(at)).sum()
        blocks = [rule.background(_wide(block)).sum() for block in _blocks(flat)]
        return torch.stack(blocks).sum() + total if blocks else total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        logits, position, score = ctx.saved_tensors
        cells = dense_cells(logits)
        flat = memory_order(cells)
        slope = torch.empty_like(cells)
        flat_slope = memory_order(slope)
        for block, out in zip(_blocks(flat), _blocks(flat_slope), strict=True):
            out.copy_(ctx.rule.background_slope(_wide(block)).mul_(grad))
        flat_slope[position] = (ctx.rule.positive_slope(_wide(flat[position]), score) * grad).to(slope.dtype)
        return None, slope.view(logits.shape), None, None


def _blocks(flat: Tensor) -> tuple[Tensor, ...]:
    return torch.split(flat, _BLOCK.get(flat.device.type, _BLOCK["cuda"]))


def _wide(logits: Tensor) -> Tensor:
    """At least float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
