"""Networks, losses, post-processing and prediction; importing this package alone does not import torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from yolo.core.version import __version__

if TYPE_CHECKING:
    from yolo.core.predictor import Predictor
    from yolo.core.results import Detections
    from yolo.core.weights.load import load_model

__all__ = ["Detections", "Predictor", "__version__", "load_model"]

_LAZY = {
    "Detections": "yolo.core.results",
    "Predictor": "yolo.core.predictor",
    "load_model": "yolo.core.weights.load",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
