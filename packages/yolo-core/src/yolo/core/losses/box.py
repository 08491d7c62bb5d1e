"""Box regression loss."""

from __future__ import annotations

from torch import Tensor

from yolo.core.boxes.iou import ciou


def ciou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - CIoU of matching rows (arXiv:1911.08287, section 3.3).

    Args:
        predicted: ``[P, 4]`` xyxy, in strides.
        target: ``[P, 4]`` xyxy, in strides.

    Returns:
        ``[P]``, at least 0.
    """
    return 1 - ciou(predicted, target)
