"""Detectors as files that are proven equal to their checkpoint; importing this loads neither torch nor ONNX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from yolo.export.version import __version__

if TYPE_CHECKING:
    from yolo.export.backends.base import ExportOptions
    from yolo.export.exporter import ExportResult, export_model

__all__ = ["ExportOptions", "ExportResult", "__version__", "export_model"]

_LAZY = {
    "ExportOptions": "yolo.export.backends.base",
    "ExportResult": "yolo.export.exporter",
    "export_model": "yolo.export.exporter",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
