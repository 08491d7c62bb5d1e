"""Spatial pyramid pooling (arXiv:1406.4729).

In the aggregated form of YOLOv9 (arXiv:2402.13616, appendix A), and in YOLOv7's cross-stage-partial one
(arXiv:2207.02696; CSPNet arXiv:1911.11929).
"""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional as F

from yolo.core.nn.conv import Conv
from yolo.core.nn.registry import Args, Inputs, Shape, one_map, register_block


@register_block("SPPELAN")
class SPPELAN(nn.Module):
    """Three 5 x 5 maximum poolings in a row, joined with their input: ``[B, in, H, W]`` to ``[B, out, H, W]``."""

    def __init__(self, in_channels: int, out_channels: int, neck_channels: int | None = None) -> None:
        super().__init__()
        width = out_channels // 2 if neck_channels is None else neck_channels
        self.conv1 = Conv(in_channels, width)
        self.conv5 = Conv(4 * width, out_channels)

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """Same size, ``out_channels`` wide."""
        source = one_map(inputs)
        return Shape(args["out_channels"], source.height, source.width)

    def forward(self, x: Tensor) -> Tensor:
        """Windows of 5, 9 and 13 cells come from chaining the same pooling."""
        maps = [self.conv1(x)]
        for _ in range(3):
            maps.append(F.max_pool2d(maps[-1], 5, 1, 2))
        return self.conv5(cat(maps, dim=1))


@register_block("SPPCSPConv")
class SPPCSPConv(nn.Module):
    """Maximum poolings of 5, 9 and 13 cells side by side, with a shortcut: ``[B, in, H, W]`` to ``[B, out, H, W]``.

    All three pool the same map, as in the official YOLOv7; one after the other they would see 5, 13 and 25 cells.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        width = out_channels
        self.pre_conv = nn.Sequential(Conv(in_channels, width), Conv(width, width, 3), Conv(width, width))
        self.short_conv = Conv(in_channels, width)
        self.post_conv = nn.Sequential(Conv(4 * width, width), Conv(width, width, 3))
        self.merge_conv = Conv(2 * width, out_channels)

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """Same size, ``out_channels`` wide."""
        source = one_map(inputs)
        return Shape(args["out_channels"], source.height, source.width)

    def forward(self, x: Tensor) -> Tensor:
        """One half is pooled, one half goes past."""
        narrow: Tensor = self.pre_conv(x)
        maps = [narrow, *(F.max_pool2d(narrow, window, 1, window // 2) for window in (5, 9, 13))]
        return self.merge_conv(cat((self.post_conv(cat(maps, dim=1)), self.short_conv(x)), dim=1))
