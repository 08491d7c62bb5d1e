"""From the value of ``data.image_loader`` to a loader."""

from __future__ import annotations

import logging
from typing import Any

from yolo.core.errors import UsageError
from yolo.core.plugins import resolve
from yolo.data.loaders.base import ImageLoader
from yolo.data.loaders.default import DefaultImageLoader

_log = logging.getLogger("yolo.data")


def open_loader(value: str | dict[str, Any] | ImageLoader | None = None) -> ImageLoader:
    """Return the loader that a configuration names.

    Args:
        value: None for the default, a registered name, ``{class_path, init_args}``, or a loader already made.

    Raises:
        UsageError: the name is unknown, the class is not an ImageLoader, or its arguments are wrong.
    """
    if value is None:
        return DefaultImageLoader()
    if isinstance(value, ImageLoader):
        return value
    target, arguments = resolve("image_loaders", _gathered(value))
    if not (isinstance(target, type) and issubclass(target, ImageLoader)):
        raise UsageError(f"data.image_loader: {_name(target)} is not a subclass of yolo.data.loaders.ImageLoader")
    try:
        loader = target(**arguments)
    except TypeError as error:
        raise UsageError(f"data.image_loader: {_name(target)} does not take these init_args: {error}") from error
    if not target.__module__.startswith("yolo.data."):
        _log.info("📷 Using custom image loader: %s", target.__name__)
    return loader


def _gathered(value: str | dict[str, Any]) -> str | dict[str, Any]:
    """Put arguments under init_args: jsonargparse leaves ``--data.image_loader.init_args.key`` beside class_path."""
    if isinstance(value, str) or "class_path" not in value:
        return value
    loose = {key: item for key, item in value.items() if key not in ("class_path", "init_args")}
    return {"class_path": value["class_path"], "init_args": {**(value.get("init_args") or {}), **loose}}


def _name(target: object) -> str:
    return getattr(target, "__qualname__", repr(target))
