"""Settings of the detection loss; importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from yolo.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the loss and rules of the assignment; the defaults are the published YOLOv9's.

    Attributes:
        box_loss_weight: gain of the CIoU loss.
        cls_loss_weight: gain of the class loss.
        dfl_loss_weight: gain of the distribution focal loss.
        aux_loss_weight: share of the auxiliary branch in every term; a training with 0 does not evaluate the branch.
        matcher_topk: anchors per target.
        matcher_alpha: exponent of the class probability in the matching metric.
        matcher_beta: exponent of the overlap in the matching metric.
        cls_loss_type: ``bce`` (binary cross entropy) or ``vfl`` (varifocal).
        cls_vfl_alpha: weight of negatives in the varifocal loss.
        cls_vfl_gamma: focusing exponent of negatives in the varifocal loss.
    """

    box_loss_weight: float = 7.5
    cls_loss_weight: float = 0.5
    dfl_loss_weight: float = 1.5
    aux_loss_weight: float = 0.25
    matcher_topk: int = 10
    matcher_alpha: float = 0.5
    matcher_beta: float = 6.0
    cls_loss_type: Literal["bce", "vfl"] = "bce"
    cls_vfl_alpha: float = 0.75
    cls_vfl_gamma: float = 2.0

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            UsageError: a value makes no sense; the message names the key.
        """
        self.check_loss()

    def check_loss(self, section: str = "") -> None:
        """Check ranges of the settings of the loss, also where they are a part of other settings.

        Args:
            section: what stands in front of the keys, such as ``model.``.

        Raises:
            UsageError: a value makes no sense; the message names the key.
        """
        if self.cls_loss_type not in ("bce", "vfl"):
            raise UsageError(f"{section}cls_loss_type: {self.cls_loss_type!r} is not one of bce, vfl")
        if self.matcher_topk < 1:
            raise UsageError(f"{section}matcher_topk: must be at least 1, not {self.matcher_topk}")
        for key in LossConfig.__dataclass_fields__:
            value = getattr(self, key)
            if isinstance(value, int | float) and not 0 <= value < float("inf"):
                raise UsageError(f"{section}{key}: must be a finite number that is not negative, not {value}")
