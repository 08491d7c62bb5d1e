"""Layer aggregation: ELAN (arXiv:2211.04800) and the generalised RepNCSPELAN of YOLOv9 (arXiv:2402.13616, figure 4)."""

from __future__ import annotations

from torch import Tensor, cat, nn

from yolo.core.nn.conv import Conv
from yolo.core.nn.registry import Args, Inputs, Shape, ShapeError, one_map, register_block
from yolo.core.nn.rep import CspArgs, RepNCSP

MOST_REPEATS = 100


def infer_elan(inputs: Inputs, args: Args) -> Shape:
    """Same size, ``out_channels`` wide; the first convolution is split in halves."""
    source = one_map(inputs)
    if args["part_channels"] % 2:
        raise ShapeError(f"part_channels: {args['part_channels']} must be even (it is split in halves)")
    repeats = (args.get("csp_args") or {}).get("repeat_num", 1)
    if repeats > MOST_REPEATS:
        raise ShapeError(f"csp_args: repeat_num: {repeats} is more than {MOST_REPEATS}")
    return Shape(args["out_channels"], source.height, source.width)


class _Aggregation(nn.Module):
    """The graph that both blocks share: each stage reads the one before, and all of them are joined."""

    conv1: nn.Module
    conv2: nn.Module
    conv3: nn.Module
    conv4: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in, H, W]`` to ``[B, out, H, W]``."""
        stem: Tensor = self.conv1(x)
        second = self.conv2(stem.chunk(2, dim=1)[1])
        return self.conv4(cat((stem, second, self.conv3(second)), dim=1))


@register_block("ELAN")
class ELAN(_Aggregation):
    """Aggregation over two plain 3 x 3 convolutions, ``process_channels`` wide (default: half of ``part_channels``)."""

    infer = staticmethod(infer_elan)

    def __init__(
        self, in_channels: int, out_channels: int, part_channels: int, *, process_channels: int | None = None
    ) -> None:
        super().__init__()
        width = part_channels // 2 if process_channels is None else process_channels
        self.conv1 = Conv(in_channels, part_channels)
        self.conv2 = Conv(part_channels // 2, width, 3)
        self.conv3 = Conv(width, width, 3)
        self.conv4 = Conv(part_channels + 2 * width, out_channels)


@register_block("RepNCSPELAN")
class RepNCSPELAN(_Aggregation):
    """Aggregation over two CSP blocks, each followed by a 3 x 3 convolution (GELAN)."""

    infer = staticmethod(infer_elan)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        part_channels: int,
        *,
        process_channels: int | None = None,
        csp_args: CspArgs | None = None,
    ) -> None:
        super().__init__()
        width = part_channels // 2 if process_channels is None else process_channels
        csp = csp_args or CspArgs()
        self.conv1 = Conv(in_channels, part_channels)
        self.conv2 = nn.Sequential(RepNCSP(part_channels // 2, width, **csp), Conv(width, width, 3))
        self.conv3 = nn.Sequential(RepNCSP(width, width, **csp), Conv(width, width, 3))
        self.conv4 = Conv(part_channels + 2 * width, out_channels)
