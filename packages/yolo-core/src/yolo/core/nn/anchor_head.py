"""The anchor-based coupled head of YOLOv7 (arXiv:2207.02696) with implicit vectors (YOLOR, arXiv:2105.04206)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VALUES = 5  # before the classes: centre x, centre y, width, height, objectness
SPREAD = 0.02  # standard deviation of fresh implicit vectors


def joint_logits(objectness: Tensor, classes: Tensor) -> Tensor:
    """Logits of "an object, and of this class": ``sigmoid(result) = sigmoid(objectness) * sigmoid(classes)``.

    With o and c for the two, that is ``o + c - log(1 + exp(o) + exp(c))``, written so that nothing overflows. The class
    loss, assignment and decoding then need to know nothing of objectness.

    Args:
        objectness: ``[B, 1, h, w]``.
        classes: ``[B, classes, h, w]``, same floating type.

    Returns:
        The shape and type of ``classes``; computed in at least float32.
    """
    wide = torch.promote_types(classes.dtype, torch.float32)
    o, c = objectness.to(wide), classes.to(wide)
    return (F.logsigmoid(o) + c - F.softplus(c - F.softplus(o))).to(classes.dtype)


class Implicit(nn.Module):
    """A learned constant per channel, as in YOLOR: ``[1, channels, 1, 1]``, drawn about ``mean``; not to be decayed."""

    def __init__(self, channels: int, *, mean: float) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.empty(1, channels, 1, 1))
        nn.init.normal_(self.implicit, mean, SPREAD)


class AnchorDetection(nn.Module):
    """Predictions of one scale: a 1 x 1 convolution between two implicit vectors.

    Args:
        in_channels: of the scale's map.
        num_anchors: anchor boxes per cell.
        num_classes: classes.
    """

    def __init__(self, in_channels: int, *, num_anchors: int, num_classes: int) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        channels = num_anchors * (VALUES + num_classes)
        self.head_conv = nn.Conv2d(in_channels, channels, 1)
        self.implicit_a: Implicit | None = Implicit(in_channels, mean=0)
        self.implicit_m: Implicit | None = Implicit(channels, mean=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in, h, w]`` to ``[B, anchors * (5 + classes), h, w]``; per anchor x, y, w, h, objectness, classes."""
        if self.implicit_a is not None:
            x = x + self.implicit_a.implicit
        raw: Tensor = self.head_conv(x)
        return raw if self.implicit_m is None else raw * self.implicit_m.implicit

    def split(self, raw: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Per anchor box: joint class logits ``[B, classes, h, w]``, box logits ``[B, 4, h, w]`` of :meth:`forward`."""
        for part in raw.chunk(self.num_anchors, dim=1):
            yield joint_logits(part[:, VALUES - 1 : VALUES], part[:, VALUES:]), part[:, : VALUES - 1]

    def initialise_biases(self, objects: float) -> None:
        """Start where boxes are the anchor boxes, and few of them are expected to hold anything.

        Box logits 0; objectness ``ln(objects / anchors)``, an even spread over the anchors of a cell; classes
        ``ln(1 / classes)``.

        Args:
            objects: expected per cell.
        """
        assert self.head_conv.bias is not None
        with torch.no_grad():
            bias = self.head_conv.bias.view(self.num_anchors, -1)
            bias[:, : VALUES - 1] = 0
            bias[:, VALUES - 1] = math.log(objects / self.num_anchors)
            bias[:, VALUES:] = -math.log(bias.shape[1] - VALUES)


@torch.no_grad()
def without_implicit(head: AnchorDetection) -> AnchorDetection:
    """A copy with the implicit vectors taken into the convolution: ``m (W (x + a) + b) = (m W) x + m (W a + b)``.

    The arithmetic is in float64, the result in the head's dtype.
    """
    plain = copy.deepcopy(head)
    conv, add, multiply = plain.head_conv, plain.implicit_a, plain.implicit_m
    assert conv.bias is not None
    weight, bias = conv.weight.double(), conv.bias.double()
    if add is not None:
        bias = bias + weight[:, :, 0, 0] @ add.implicit.double().flatten()
    if multiply is not None:
        scale = multiply.implicit.double().flatten()
        weight, bias = weight * scale[:, None, None, None], bias * scale
    conv.weight.copy_(weight)
    conv.bias.copy_(bias)
    plain.implicit_a = plain.implicit_m = None
    return plain
