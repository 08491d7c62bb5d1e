"""What a network returns, before any decoding."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class BranchOutput:
    """Raw predictions of one anchor-free head (YOLOv9, arXiv:2402.13616; DFL, arXiv:2006.04388, section 3).

    Attributes:
        cls: per scale (fine to coarse) class logits, ``[B, classes, h, w]``.
        dist: per scale logits of the distance bins, ``[B, 4 * bins, h, w]``; channel = side * bins + bin,
            sides left, top, right, bottom; distances count in strides of the scale.
        strides: pixels of the input image per cell, one per scale.
    """

    cls: tuple[Tensor, ...]
    dist: tuple[Tensor, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class HeadOutput:
    """Predictions of the main head and, in training only, of the auxiliary one (YOLOv9 section 3.2)."""

    main: BranchOutput
    aux: BranchOutput | None = None
