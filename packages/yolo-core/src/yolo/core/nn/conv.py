"""The plain layers: convolution with normalisation, and pooling.

Sources: batch normalisation arXiv:1502.03167; SiLU arXiv:1702.03118; the constants are those of the published YOLOv9.
"""

from __future__ import annotations

import copy
from typing import Annotated, Literal

from torch import Tensor, nn

from yolo.core.nn.registry import Args, Inputs, Shape, ShapeError, one_map, register_block, slide

BN_EPS = 1e-3
BN_MOMENTUM = 0.03  # torch's meaning: new = 0.97 * old + 0.03 * batch

Activation = Literal["SiLU", "ReLU", "LeakyReLU", "Hardswish", "none"]
Kernel = int | tuple[int, int]


class AtLeast(int):
    """Lower bound of a whole number in a model file (others must be 1 or more)."""


Padding = Annotated[int, AtLeast(0)] | tuple[Annotated[int, AtLeast(0)], Annotated[int, AtLeast(0)]]


def activation_layer(name: Activation) -> nn.Module:
    """A fresh activation module; ``none`` passes its input on."""
    return nn.Identity() if name == "none" else getattr(nn, name)()


def same_padding(kernel: Kernel, dilation: int = 1) -> Kernel:
    """Padding that keeps the size at stride 1 (odd kernels)."""
    if isinstance(kernel, int):
        return (kernel - 1) * dilation // 2
    return (kernel[0] - 1) * dilation // 2, (kernel[1] - 1) * dilation // 2


def infer_conv(inputs: Inputs, args: Args) -> Shape:
    """Shape after a convolution; both channel counts must divide by the groups."""
    source = one_map(inputs)
    groups = args.get("groups", 1)
    for count, what in ((source.channels, "input"), (args["out_channels"], "output")):
        if count % groups:
            raise ShapeError(f"groups: {groups} does not divide its {count} {what} channels")
    dilation, padding = args.get("dilation", 1), args.get("padding")
    if padding is None:
        padding = same_padding(args["kernel_size"], dilation)
    return slide(
        source,
        args["out_channels"],
        kernel=args["kernel_size"],
        stride=args.get("stride", 1),
        padding=padding,
        dilation=dilation,
    )


@register_block("Conv")
class Conv(nn.Module):
    """Convolution without bias, normalisation, activation: ``[B, in, H, W]`` to ``[B, out, H/stride, W/stride]``."""

    infer = staticmethod(infer_conv)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Kernel = 1,
        stride: int = 1,
        *,
        padding: Padding | None = None,
        groups: int = 1,
        dilation: int = 1,
        activation: Activation = "SiLU",
    ) -> None:
        super().__init__()
        pad = same_padding(kernel_size, dilation) if padding is None else padding
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, pad, groups=groups, dilation=dilation, bias=False
        )
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.act = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution, normalisation and activation."""
        return self.act(self.bn(self.conv(x)))


def folded(layer: Conv) -> nn.Conv2d:
    """One convolution with bias that does what convolution and batch normalisation do in evaluation mode.

    The arithmetic is in float64, the result in the layer's dtype. A layer that is folded already is copied.
    """
    conv = copy.deepcopy(layer.conv)
    weight = conv.weight.detach().double()
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().double()
    norm = layer.bn
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = weight * scale[:, None, None, None]
        bias = norm.bias.detach().double() + (bias - norm.running_mean.double()) * scale
    dtype = conv.weight.dtype
    conv.weight, conv.bias = nn.Parameter(weight.to(dtype)), nn.Parameter(bias.to(dtype))
    return conv


@register_block("Pool")
class Pool(nn.Module):
    """Maximum or average pooling; the stride is the kernel size unless given."""

    def __init__(
        self,
        method: Literal["max", "avg"] = "max",
        kernel_size: int = 2,
        stride: int | None = None,
        padding: Annotated[int, AtLeast(0)] | None = None,
    ) -> None:
        super().__init__()
        pad = (kernel_size - 1) // 2 if padding is None else padding
        self.pool = (nn.MaxPool2d if method == "max" else nn.AvgPool2d)(kernel_size, stride, pad)

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """Shape after pooling."""
        source, kernel = one_map(inputs), args["kernel_size"]
        padding = (kernel - 1) // 2 if args["padding"] is None else args["padding"]
        if padding > kernel // 2:
            raise ShapeError(f"padding: {padding} is more than half of kernel_size: {kernel}")
        return slide(source, source.channels, kernel=kernel, stride=args["stride"] or kernel, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """Pool each channel."""
        return self.pool(x)
