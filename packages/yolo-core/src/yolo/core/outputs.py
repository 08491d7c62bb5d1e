"""What a network returns, before any decoding."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class BranchOutput:
    """Raw predictions of one head: anchor-free (YOLOv9, arXiv:2402.13616; DFL, arXiv:2006.04388, section 3) or not.

    A head with anchor boxes (YOLOv7, arXiv:2207.02696) gives one map per scale and anchor: scale by scale, in each the
    anchors in the order of the model file. Whatever reads a branch meets both kinds as a list of maps.

    Attributes:
        cls: per map (fine to coarse) class logits, ``[B, classes, h, w]``. With anchor boxes: of "there is an object,
            and it is of this class", see :func:`yolo.core.nn.anchor_head.joint_logits`.
        dist: per map logits of the distance bins, ``[B, 4 * bins, h, w]``; channel = side * bins + bin,
            sides left, top, right, bottom; distances count in strides of the scale. With anchor boxes: logits of
            centre x, centre y, width and height, ``[B, 4, h, w]``.
        strides: pixels of the input image per cell, one per map.
        anchors: (width, height) in pixels of the anchor box of each map; ``None`` for an anchor-free head.
    """

    cls: tuple[Tensor, ...]
    dist: tuple[Tensor, ...]
    strides: tuple[int, ...]
    anchors: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True)
class HeadOutput:
    """Predictions of the main head and, in training only, of the auxiliary one (YOLOv9 section 3.2)."""

    main: BranchOutput
    aux: BranchOutput | None = None
