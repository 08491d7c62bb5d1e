"""The retriever-dictionary block of YOLO-RD (arXiv:2410.15346)."""

from __future__ import annotations

from torch import Tensor, nn

from yolo.core.nn.conv import Conv
from yolo.core.nn.elan import RepNCSPELAN, infer_elan
from yolo.core.nn.registry import Args, Inputs, Shape, ShapeError, register_block
from yolo.core.nn.rep import CspArgs

SHARE = 0.8  # of what the dictionary says in the output; the rest is the input
EPS = 1e-5


class DConv(nn.Module):
    """Look every position up in a dictionary: ``[B, c, H, W]`` to ``[B, c, H, W]``.

    Coefficients of the atoms come from a 1 x 1 convolution, exchange information in a depth-wise 5 x 5 one, and are
    standardised over the atoms at each position (deviation with n - 1); the atoms are the kernel of a last 1 x 1 one.

    Args:
        channels: of input and output.
        atoms: entries of the dictionary.
    """

    def __init__(self, channels: int, atoms: int) -> None:
        super().__init__()
        self.CG = Conv(channels, atoms)
        self.GIE = Conv(atoms, atoms, 5, groups=atoms, activation="none")
        self.D = Conv(atoms, channels, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        """Mix what the dictionary says with the input."""
        coefficients: Tensor = self.GIE(self.CG(x))
        centred = coefficients - coefficients.mean(1, keepdim=True)
        scale = coefficients.std(1, keepdim=True) + EPS
        return SHARE * self.D(centred / scale) + (1 - SHARE) * x


@register_block("RepNCSPELAND")
class RepNCSPELAND(RepNCSPELAN):
    """RepNCSPELAN with a retriever dictionary of ``atoms`` entries behind it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        part_channels: int,
        *,
        process_channels: int | None = None,
        csp_args: CspArgs | None = None,
        atoms: int = 512,
    ) -> None:
        super().__init__(in_channels, out_channels, part_channels, process_channels=process_channels, csp_args=csp_args)
        self.dconv = DConv(out_channels, atoms)

    @staticmethod
    def infer(inputs: Inputs, args: Args) -> Shape:
        """As of RepNCSPELAN; one atom has no deviation."""
        if args["atoms"] < 2:
            raise ShapeError(f"atoms: must be at least 2, not {args['atoms']}")
        return infer_elan(inputs, args)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in, H, W]`` to ``[B, out, H, W]``."""
        return self.dconv(super().forward(x))
