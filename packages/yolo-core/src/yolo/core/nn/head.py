"""The heads: YOLOv9's, anchor-free and decoupled, with box sides as distributions (DFL, arXiv:2006.04388 section 3).

YOLOv7's, with anchor boxes, is in :mod:`yolo.core.nn.anchor_head`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from yolo.core.nn.anchor_head import VALUES, AnchorDetection
from yolo.core.nn.conv import Conv
from yolo.core.nn.registry import Args, Inputs, Output, Shape, ShapeError, all_maps, register_block

Anchors = tuple[tuple[tuple[float, float], ...], ...]
BOX_GROUPS = 4  # one group of channels per side of the box


def box_channels(first: int, reg_max: int) -> int:
    """Width of the box branch: a quarter of the finest scale in multiples of 4, at least 16 and ``4 * reg_max``."""
    return max(math.ceil(first // 4 / BOX_GROUPS) * BOX_GROUPS, BOX_GROUPS * reg_max, 16)


class BinCentres(nn.Module):
    """The constants 0 .. bins - 1 that published weight files carry; decoding does not read them."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.anc2vec = nn.Conv3d(bins, 1, 1, bias=False)
        values = torch.arange(bins, dtype=torch.get_default_dtype()).view(1, bins, 1, 1, 1)
        self.anc2vec.weight = nn.Parameter(values, requires_grad=False)


class Detection(nn.Module):
    """Predictions of one scale.

    Args:
        in_channels: of the scale's map.
        box_width: channels inside the box branch.
        class_width: channels inside the class branch.
        num_classes: classes.
        reg_max: bins per side of the box.
    """

    def __init__(self, in_channels: int, *, box_width: int, class_width: int, num_classes: int, reg_max: int) -> None:
        super().__init__()
        self.anchor_conv = nn.Sequential(
            Conv(in_channels, box_width, 3),
            Conv(box_width, box_width, 3, groups=BOX_GROUPS),
            nn.Conv2d(box_width, 4 * reg_max, 1, groups=BOX_GROUPS),
        )
        self.class_conv = nn.Sequential(
            Conv(in_channels, class_width, 3),
            Conv(class_width, class_width, 3),
            nn.Conv2d(class_width, num_classes, 1),
        )
        self.anc2vec = BinCentres(reg_max)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, in, h, w]`` to class logits ``[B, classes, h, w]`` and box logits ``[B, 4 * bins, h, w]``."""
        return self.class_conv(x), self.anchor_conv(x)

    def initialise_biases(self, objects: float) -> None:
        """Box logits 1, class logits ``ln(objects / classes)``.

        Args:
            objects: expected per cell.
        """
        box, cls = self.anchor_conv[2], self.class_conv[2]
        assert isinstance(box, nn.Conv2d) and isinstance(cls, nn.Conv2d)
        for last, value in ((box, 1.0), (cls, math.log(objects / cls.out_channels))):
            assert last.bias is not None
            nn.init.constant_(last.bias, value)


@register_block("MultiheadDetection", many=True, head=True)
class MultiheadDetection(nn.Module):
    """One head per scale, fine to coarse.

    Args:
        in_channels: of the maps, one per scale.
        num_classes: classes.
        class_channels: width of the class branches (:class:`yolo.core.models.class_width.ClassWidth` is the rule).
        reg_max: bins per side of the box.
        anchors: (width, height) in pixels of the anchor boxes of each scale, for ``v7``.
        version: ``v9``, a :class:`Detection` per scale, whose widths the finest scale sets; or ``v7``, an
            :class:`~yolo.core.nn.anchor_head.AnchorDetection` per scale.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        num_classes: int,
        class_channels: int,
        reg_max: int = 16,
        anchors: Anchors | None = None,
        version: Literal["v9", "v7"] = "v9",
    ) -> None:
        super().__init__()
        heads: list[Detection | AnchorDetection]
        if version == "v7":
            heads = [
                AnchorDetection(channels, num_anchors=len(boxes), num_classes=num_classes)
                for channels, boxes in zip(in_channels, anchors or (), strict=True)
            ]
        else:
            heads = [
                Detection(
                    channels,
                    box_width=box_channels(in_channels[0], reg_max),
                    class_width=class_channels,
                    num_classes=num_classes,
                    reg_max=reg_max,
                )
                for channels in in_channels
            ]
        self.heads = nn.ModuleList(heads)

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Output:
        """One map per scale: class logits above box logits, or per anchor box x, y, w, h, objectness, classes."""
        maps = all_maps(inputs)
        if any(fine.height < coarse.height for fine, coarse in pairwise(maps)):
            raise ShapeError("its sources must go from the finest to the coarsest scale")
        classes, anchors = args["num_classes"], args["anchors"]
        if args["version"] == "v9":
            return tuple(Shape(classes + 4 * args["reg_max"], shape.height, shape.width) for shape in maps)
        if anchors is None or len(anchors) != len(maps):
            raise ShapeError(
                f"version v7 reads the anchor boxes of {len(maps)} scales from anchor.anchor of the file, "
                f"but {'nothing is' if anchors is None else f'those of {len(anchors)} are'} there; write one list "
                "[width, height, width, height, ...] in pixels per scale, fine to coarse"
            )
        return tuple(
            Shape(len(boxes) * (VALUES + classes), shape.height, shape.width)
            for shape, boxes in zip(maps, anchors, strict=True)
        )

    def initialise_biases(self, objects: Sequence[float]) -> None:
        """Start values of the last layers from the number of objects expected per cell, one per scale."""
        for head, expected in zip(self.heads, objects, strict=True):
            assert isinstance(head, (Detection, AnchorDetection))
            head.initialise_biases(expected)

    def forward(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Maps ``[B, c_i, h_i, w_i]`` to class logits and box logits: one of each per scale, or per anchor box.

        See :class:`yolo.core.outputs.BranchOutput`.
        """
        pairs: list[tuple[Tensor, Tensor]] = []
        for head, x in zip(self.heads, maps, strict=True):
            output = head(x)
            pairs += head.split(output) if isinstance(head, AnchorDetection) else [output]
        return tuple(cls for cls, _ in pairs), tuple(dist for _, dist in pairs)
