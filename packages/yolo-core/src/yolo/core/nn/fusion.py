"""Joining maps: concatenation, up-sampling, and the reversible branch's CBLinear and CBFuse.

Sources: CBNetV2 arXiv:2107.00420 section 3, as used by YOLOv9's programmable gradient information (arXiv:2402.13616,
section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolo.core.nn.conv import AtLeast
from yolo.core.nn.registry import Args, Inputs, Output, Shape, ShapeError, all_maps, one_map, register_block


@register_block("Concat", many=True)
class Concat(nn.Module):
    """Join maps of one size along the channels."""

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """The sum of the channels; all sizes must agree."""
        maps = all_maps(inputs)
        if any(shape[1:] != maps[0][1:] for shape in maps):
            sizes = ", ".join(str(shape) for shape in maps)
            raise ShapeError(f"its sources differ in size: {sizes} (channels x height x width)")
        return Shape(sum(shape.channels for shape in maps), *maps[0][1:])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``[B, c_i, H, W]`` each to ``[B, sum c_i, H, W]``."""
        return torch.cat(tuple(maps), dim=1)


@register_block("UpSample")
class UpSample(nn.Module):
    """Enlarge by a whole factor."""

    def __init__(self, scale_factor: int = 2, mode: Literal["nearest", "bilinear"] = "nearest") -> None:
        super().__init__()
        self.scale_factor, self.mode = scale_factor, mode

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """``scale_factor`` times the size."""
        source, factor = one_map(inputs), args["scale_factor"]
        return Shape(source.channels, source.height * factor, source.width * factor)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, c, H, W]`` to ``[B, c, H * factor, W * factor]``."""
        return F.interpolate(x, scale_factor=float(self.scale_factor), mode=self.mode)


@register_block("CBLinear")
class CBLinear(nn.Module):
    """A 1 x 1 convolution with bias whose channels are handed out as a list of maps."""

    def __init__(self, in_channels: int, out_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.out_channels = tuple(out_channels)
        self.conv = nn.Conv2d(in_channels, sum(self.out_channels), 1)

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Output:
        """One map per entry of ``out_channels``, all of the source's size."""
        source = one_map(inputs)
        return tuple(Shape(channels, source.height, source.width) for channels in args["out_channels"])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``[B, in, H, W]`` to views ``[B, out_i, H, W]``."""
        return self.conv(x).split(self.out_channels, dim=1)


@register_block("CBFuse", many=True)
class CBFuse(nn.Module):
    """Add one map of each list, resized to the last source, onto that last source."""

    def __init__(self, index: tuple[Annotated[int, AtLeast(0)], ...]) -> None:
        super().__init__()
        self.index = tuple(index)

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """The shape of the last source; the chosen maps must have its channels."""
        index, target = args["index"], inputs[-1]
        if len(index) != len(inputs) - 1:
            raise ShapeError(f"index has {len(index)} entries for {len(inputs) - 1} sources before the last")
        if not isinstance(target, Shape):
            raise ShapeError("its last source must be one map, not a list")
        for position, (source, pick) in enumerate(zip(inputs, index, strict=False)):
            if isinstance(source, Shape):
                raise ShapeError(f"its source number {position + 1} must be a list of maps (CBLinear)")
            if pick >= len(source):
                raise ShapeError(f"index[{position}] is {pick}, but that source gives {len(source)} maps (from 0)")
            if source[pick].channels != target.channels:
                raise ShapeError(
                    f"index[{position}]: {source[pick].channels} channels do not fit the {target.channels} it adds to"
                )
        return target

    def forward(self, inputs: Sequence[Tensor | tuple[Tensor, ...]]) -> Tensor:
        """Lists of ``[B, c, h, w]`` and a last ``[B, c, H, W]`` to ``[B, c, H, W]``."""
        target = inputs[-1]
        assert isinstance(target, Tensor)  # infer() has checked the graph
        size = target.shape[-2:]
        total = target
        for source, pick in zip(inputs, self.index, strict=False):
            part = source[pick]
            total = total + (part if part.shape[-2:] == size else F.interpolate(part, size=size, mode="nearest"))
        return total
