"""Losses: one file per term, put together in ``detection.py``, with settings in ``config.py``.

Importing this package, or :class:`LossConfig`, does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolo.core.losses.config import LossConfig

if TYPE_CHECKING:
    from yolo.core.losses.detection import DetectionLoss, LossOutput

__all__ = ["DetectionLoss", "LossConfig", "LossOutput"]


def __getattr__(name: str) -> Any:
    if name in ("DetectionLoss", "LossOutput"):
        from yolo.core.losses import detection

        return getattr(detection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
