"""Halving the resolution: AConv and ADown of YOLOv9 (arXiv:2402.13616, appendix A)."""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional as F

from yolo.core.nn.conv import Conv
from yolo.core.nn.registry import Args, Inputs, Shape, ShapeError, one_map, register_block, slide


def _after_average(shape: Shape) -> Shape:
    return slide(shape, shape.channels, kernel=2, stride=1, padding=0)


@register_block("AConv")
class AConv(nn.Module):
    """2 x 2 average at stride 1, then a 3 x 3 convolution at stride 2: ``[B, in, H, W]`` to ``[B, out, H/2, W/2]``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv(in_channels, out_channels, 3, 2)

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """Half the size (rounded down)."""
        return slide(_after_average(one_map(inputs)), args["out_channels"], kernel=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Smooth, then stride."""
        return self.conv(F.avg_pool2d(x, 2, 1))


@register_block("ADown")
class ADown(nn.Module):
    """2 x 2 average, then one half of the channels convolved at stride 2 and the other pooled and projected."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels // 2, out_channels // 2, 3, 2)
        self.conv2 = Conv(in_channels // 2, out_channels // 2, 1)

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """Half the size (rounded down); channels must come in pairs."""
        source = one_map(inputs)
        for count, what in ((source.channels, "its source has"), (args["out_channels"], "out_channels asks for")):
            if count % 2:
                raise ShapeError(f"splits its channels in halves, but {what} {count} of them, an odd number")
        return slide(_after_average(source), args["out_channels"], kernel=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in, H, W]`` to ``[B, out, H/2, W/2]``."""
        left, right = F.avg_pool2d(x, 2, 1).chunk(2, dim=1)
        return cat((self.conv1(left), self.conv2(F.max_pool2d(right, 3, 2, 1))), dim=1)
