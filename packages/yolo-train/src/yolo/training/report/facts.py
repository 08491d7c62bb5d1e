"""What a measurement tells about model and data, for the head of a page: from the facts that 'yolo validate' stores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def heading(facts: Mapping[str, Any], *, otherwise: str) -> str:
    """Return the file of the model and the images that it was measured on.

    Args:
        facts: ``checkpoint``, ``subset``, ``data`` and ``benchmark`` of a metrics file; any of them may be missing.
        otherwise: stands for the model where its file is not named.
    """
    model, subset = text_in(facts, "checkpoint", "path"), text_in(facts, "subset")
    return (PurePath(model).name if model else otherwise) + (f" on {subset}" if subset else "")


def in_summary(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return lines for the summary of a report by their name; see :func:`heading`."""
    root, subset = text_in(facts, "data", "root"), text_in(facts, "subset")
    lines = {"model": text_in(facts, "checkpoint", "path"), "data": f"{root} ({subset})" if subset else root}
    network, whole = (_inside(facts, "benchmark", "latency", stage, "mean") for stage in ("network", "end to end"))
    if isinstance(network, float) and isinstance(whole, float):
        device = text_in(facts, "benchmark", "device")
        lines["latency"] = f"{network:.1f} ms network, {whole:.1f} ms end to end, {device}, batch 1"
    return {name: text for name, text in lines.items() if text}


def text_in(content: Mapping[str, Any], *keys: str) -> str:
    """Return a text inside nested data, empty where there is none."""
    value = _inside(content, *keys)
    return value if isinstance(value, str) else ""


def _inside(content: Mapping[str, Any], *keys: str) -> Any:
    value: Any = content
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
