"""What can be wrong with a cache, and the boxes that the most common mistakes are told in."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from yolo.core.errors import YoloError

_WIDTH = 72


class CacheError(YoloError):
    """Something is wrong with a cache; the message names its folder and says what to do."""


class MissingCacheError(CacheError):
    """There is no (complete) cache in a folder."""


class StaleCacheError(CacheError):
    """The cache was made by another version: it has to be made again."""


class DamagedCacheError(CacheError):
    """The files of a cache are not what was written."""


class DamagedRecordError(DamagedCacheError):
    """One record (or one part of the index) is not what was written."""


class WrongCacheKeyError(CacheError):
    """The cache was encrypted with another key."""


class MissingCacheKeyError(CacheError):
    """The cache is encrypted, and there is no key."""


class MismatchError(CacheError):
    """The configuration asks for another kind of cache than the one that is there."""


class CacheFullError(CacheError):
    """The disk is full."""


class CacheReadOnlyError(CacheError):
    """The folder cannot be written."""


class ImageNotInCacheError(CacheError):
    """A picture is asked for that the cache does not hold.

    Args:
        path: of the image; without a folder the whole message, which is how errors of workers are put together again.
        folder: of the cache.
    """

    def __init__(self, path: str, folder: Path | None = None) -> None:
        lines = (
            f"Image: {path}",
            f"Cache: {folder}",
            "",
            "With data.cache_only the pictures come from the cache alone.",
            "Make the cache of this data set with `yolo cache-create`, or set data.cache_only to false.",
        )
        super().__init__(path if folder is None else box("IMAGE NOT FOUND IN CACHE", lines))


def box(title: str, lines: Sequence[str]) -> str:
    """Draw a message as a box of 72 columns; longer lines are wrapped."""
    inner = _WIDTH - 6
    rows = [part for line in lines for part in textwrap.wrap(line, inner, break_on_hyphens=False) or [""]]
    edge = "═" * (_WIDTH - 2)
    drawn = [f"║  {row:<{inner}}  ║" for row in rows]
    return "\n".join((f"╔{edge}╗", f"║  {title:<{inner}}  ║", f"╠{edge}╣", *drawn, f"╚{edge}╝"))


def encryption_mismatch(folder: Path, *, encrypted: bool) -> MismatchError:
    """Return the error for a cache that is encrypted while ``cache_encrypt`` is false, or the other way round.

    Args:
        folder: of the cache.
        encrypted: whether the cache is.
    """
    if encrypted:
        lines = [
            "The cache is ENCRYPTED but cache_encrypt: false in your config.",
            "",
            f"Cache: {folder}",
            "Set data.cache_encrypt: true, and YOLO_ENCRYPTION_KEY to its key.",
        ]
    else:
        lines = [
            "The cache is NOT ENCRYPTED but cache_encrypt: true in your config.",
            "",
            f"Cache: {folder}",
            "Set data.cache_encrypt: false, or make the cache again: data.cache_refresh: true where the images are, "
            "or `yolo cache-create --encrypt`.",
        ]
    return MismatchError(box("ENCRYPTION MISMATCH", lines))


def format_mismatch(folder: Path, *, wanted: str, found: str) -> MismatchError:
    """Return the error for a cache whose labels were read from another dataset format than ``data.format``."""
    lines = [
        f"YAML config:  format: {wanted}",
        f"Cache format: {found}",
        "",
        f"Cache: {folder}",
        f"Set data.format: {found}, or make the cache again with `yolo cache-create`.",
    ]
    return MismatchError(box("FORMAT MISMATCH", lines))


def wrong_key(folder: Path, *, cache_key: str, given_key: str) -> WrongCacheKeyError:
    """Return the error for a key that is not the cache's; keys are told apart by their ids, which are no secret."""
    lines = [
        "The cache was encrypted with another key.",
        "",
        f"Cache:                {folder}",
        f"Key id of the cache:  {cache_key}",
        f"Key id of yours:      {given_key}",
        "",
        "Set YOLO_ENCRYPTION_KEY (or data.encryption_key) to the key that the cache was made with. "
        "`yolo cache-rekey` changes the key of a cache.",
    ]
    if cache_key == given_key:
        lines[0] = "The key does not open the cache, although its id is right: the cache's head was changed."
    return WrongCacheKeyError(box("WRONG KEY", lines))


def missing_key(folder: Path) -> MissingCacheKeyError:
    """Return the error for an encrypted cache without a key."""
    return MissingCacheKeyError(
        f"the cache {str(folder)!r} is encrypted: set YOLO_ENCRYPTION_KEY (or data.encryption_key) to its key, "
        "64 hexadecimal characters"
    )
