"""From the value of ``data.image_loader`` to a loader."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from typing import Any

from yolo.core.errors import UsageError
from yolo.core.plugins import resolve
from yolo.data.encryption.keys import parse_key
from yolo.data.loaders.base import ImageLoader
from yolo.data.loaders.default import DefaultImageLoader
from yolo.data.loaders.encrypted import EncryptedImageLoader

_log = logging.getLogger("yolo.data")


def open_loader(
    value: str | dict[str, Any] | ImageLoader | None = None, *, encryption_key: str | None = None
) -> ImageLoader:
    """Return the loader that a configuration names.

    Args:
        value: None for the default, a registered name, ``{class_path, init_args}``, or a loader already made.
        encryption_key: ``data.encryption_key``, for an encrypted loader that was given no key of its own.

    Raises:
        UsageError: the name is unknown, the class is not an ImageLoader, or its arguments are wrong.
    """
    loader = _opened(value)
    if encryption_key is not None and isinstance(loader, EncryptedImageLoader) and not loader.has_key:
        loader.use_key(parse_key(encryption_key, source="data.encryption_key"))
    return loader


def check_picklable(loader: ImageLoader) -> None:
    """Refuse a loader that cannot travel to worker processes which are not forked.

    Raises:
        UsageError: naming its class.
    """
    try:
        pickle.dumps(loader)
    except RuntimeError:  # locks and queues refuse it anywhere but on the way to a worker
        return
    except Exception as error:  # a loader is foreign code and may raise anything
        raise UsageError(
            f"data.image_loader: {_name(type(loader))} cannot be sent to worker processes, it must be picklable "
            f"({type(error).__name__}: {error}): create clients and open files on first use and not in __init__, "
            "or set data.num_workers to 0"
        ) from error


def _opened(value: str | dict[str, Any] | ImageLoader | None) -> ImageLoader:
    if value is None:
        return DefaultImageLoader()
    if isinstance(value, ImageLoader):
        return value
    if isinstance(value, dict) and not value.keys() & {"class_path", "use"}:  # not printed: it may hold a key
        raise UsageError(f"data.image_loader: class_path is missing beside {', '.join(sorted(map(str, value)))}")
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
    arguments = value.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        raise UsageError(f"data.image_loader.init_args is a {type(arguments).__name__}: write names and values")
    loose = {key: item for key, item in value.items() if key not in ("class_path", "init_args")}
    return {"class_path": value["class_path"], "init_args": {**arguments, **loose}}


def _name(target: object) -> str:
    return getattr(target, "__qualname__", repr(target))
