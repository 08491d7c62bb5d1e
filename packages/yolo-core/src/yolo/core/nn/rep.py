"""Re-parameterisable convolution and the cross-stage-partial block built from it.

Sources: RepVGG arXiv:2101.03697 section 3 (two branches in training, one kernel in deployment), CSPNet
arXiv:1911.11929, YOLOv9 arXiv:2402.13616 section 4 (RepConv without identity branch inside a CSP block).
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor, cat, nn

from yolo.core.nn.conv import Activation, Conv, Kernel, activation_layer, folded, infer_conv
from yolo.core.nn.registry import Args, Inputs, Shape, ShapeError, register_block


class CspArgs(TypedDict, total=False):
    """Arguments of the CSP blocks inside a RepNCSPELAN (``csp_args`` in a model file)."""

    repeat_num: int
    csp_expand: float


@register_block("RepConv")
class RepConv(nn.Module):
    """A k x k and a 1 x 1 convolution side by side, added, then activated; one convolution once fused."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Kernel = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        activation: Activation = "SiLU",
    ) -> None:
        super().__init__()
        self.act = activation_layer(activation)
        self.conv1 = Conv(in_channels, out_channels, kernel_size, stride, groups=groups, activation="none")
        self.conv2 = Conv(in_channels, out_channels, 1, stride, groups=groups, activation="none")

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """Shape after the convolution; the kernel must have a centre."""
        kernel = args["kernel_size"]
        if any(side % 2 == 0 for side in ((kernel,) if isinstance(kernel, int) else kernel)):
            raise ShapeError(f"kernel_size: {kernel} must be odd, so that the 1 x 1 branch can merge into its centre")
        return infer_conv(inputs, args)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in, H, W]`` to ``[B, out, H/stride, W/stride]``."""
        # Batch normalisation does not need its output again for the gradient: the sum may overwrite it.
        return self.act(self.conv1(x).add_(self.conv2(x)))


def merged(layer: RepConv) -> nn.Conv2d:
    """One convolution with bias that does what both branches and their normalisations do in evaluation mode."""
    wide, narrow = folded(layer.conv1), folded(layer.conv2)
    rows, columns = wide.kernel_size
    with torch.no_grad():
        wide.weight[:, :, rows // 2, columns // 2] += narrow.weight[:, :, 0, 0]
        assert wide.bias is not None and narrow.bias is not None
        wide.bias += narrow.bias
    return wide


class Bottleneck(nn.Module):
    """RepConv then Conv, with the input added when the widths agree: ``[B, in, H, W]`` to ``[B, out, H, W]``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: tuple[int, int] = (3, 3),
        residual: bool = True,
        expand: float = 1.0,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expand)
        self.conv1 = RepConv(in_channels, hidden, kernel_size[0])
        self.conv2 = Conv(hidden, out_channels, kernel_size[1])
        self.residual = residual and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Two 3 x 3 convolutions beside a shortcut."""
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.residual else y


class RepNCSP(nn.Module):
    """Cross-stage-partial block over ``repeat_num`` bottlenecks: ``[B, in, H, W]`` to ``[B, out, H, W]``."""

    def __init__(self, in_channels: int, out_channels: int, *, repeat_num: int = 1, csp_expand: float = 0.5) -> None:
        super().__init__()
        hidden = int(out_channels * csp_expand)
        self.conv1 = Conv(in_channels, hidden)
        self.conv2 = Conv(in_channels, hidden)
        self.conv3 = Conv(2 * hidden, out_channels)
        self.bottleneck = nn.Sequential(*(Bottleneck(hidden, hidden) for _ in range(repeat_num)))

    def forward(self, x: Tensor) -> Tensor:
        """Half of the width goes through the bottlenecks, half past them."""
        return self.conv3(cat((self.bottleneck(self.conv1(x)), self.conv2(x)), dim=1))
