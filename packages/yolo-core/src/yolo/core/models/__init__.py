"""Networks: data files (``zoo``), the typed form of them, the modules built from them, and their fusion for inference.

Importing this package loads no torch; the names below do, when they are first used. The function ``fuse`` is in the
module of the same name: ``from yolo.core.models.fuse import fuse``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yolo.core.models.build import build_model
    from yolo.core.models.counts import Counts, count
    from yolo.core.models.network import Network
    from yolo.core.models.plan import LayerRow, layer_table
    from yolo.core.models.spec import LayerSpec, ModelSpec, load_spec, parse_spec, zoo_names

__all__ = [
    "Counts",
    "LayerRow",
    "LayerSpec",
    "ModelSpec",
    "Network",
    "build_model",
    "count",
    "layer_table",
    "load_spec",
    "parse_spec",
    "zoo_names",
]

_HOME = {
    "Counts": "counts",
    "LayerRow": "plan",
    "LayerSpec": "spec",
    "ModelSpec": "spec",
    "Network": "network",
    "build_model": "build",
    "count": "counts",
    "layer_table": "plan",
    "load_spec": "spec",
    "parse_spec": "spec",
    "zoo_names": "spec",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
