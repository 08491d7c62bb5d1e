"""Width and height of many image files, from their headers alone."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.core.decoders.header import jpeg_header, png_header
from yolo.core.errors import UsageError, YoloError
from yolo.core.images import image_size
from yolo.data.encryption.container import WrongKeyError
from yolo.data.formats.report import DataError, Place, Report
from yolo.data.loaders.base import ImageLoader

_HEAD = 32768
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", b"\xff\xda"  # ITU-T T.81, table B.1
_LARGEST = 1 << 28  # bytes; a larger file is not searched for its end
_CHUNK = 256
_MAX_PIXELS = 100_000_000  # above this the careful reader decides


def read_sizes(paths: Sequence[str], loader: ImageLoader, report: Report | None = None) -> NDArray[np.int32]:
    """Return int32 ``[n, 2]``: width and height of each upright picture.

    JPEG and PNG headers are read here, everything else (and everything odd) by :func:`yolo.core.images.image_size`.
    A file that has no readable header is loaded when the loader can read more than plain image files. A JPEG or PNG
    without its end is loaded too, so that a cut file is found here and not in the middle of an epoch.

    Args:
        paths: of the files.
        loader: reads them in training.
        report: a collecting one takes every file that cannot be used, whose size is then 0 x 0.

    Raises:
        YoloError: naming the first file that cannot be used, and how many there are.
    """
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda chunk: [_size(path, loader) for path in chunk], chunks)
        results = [size for part in parts for size in part]
    errors = [(path, error) for path, error in zip(paths, results, strict=True) if isinstance(error, YoloError)]
    if errors:
        first = errors[0][1]
        if isinstance(first, UsageError | WrongKeyError):  # the files are in order, the key is not
            raise first
        if report is None or not report.collect:
            more = f" ({len(errors) - 1} more images cannot be used either)" if len(errors) > 1 else ""
            raise YoloError(f"{first}{more}; remove or replace it") from first
        for path, error in errors:
            report.refuse(DataError("unreadable-image", Place(path), without_name(error, path)))
    sizes = [(0, 0) if isinstance(size, YoloError) else size for size in results]
    return np.array(sizes, np.int32).reshape(-1, 2)


def without_name(error: YoloError, path: str) -> str:
    """The message of an error about an image, without the file's name in front."""
    text = str(error)
    for name in (repr(path), path):
        text = text.removeprefix(name)
    return text.lstrip(": ")


def _size(path: str, loader: ImageLoader) -> tuple[int, int] | YoloError:
    try:
        if os.path.splitext(path)[1].lower() in loader.extra_suffixes:  # noqa: PTH122  # hot
            return loader.size(path)
        size = _quick(path)
        if size is None:
            size = image_size(path)
            if not _is_whole(path):
                loader.read(path)
        return size
    except YoloError as error:
        if loader.needs_files:
            return error
    try:
        return loader.size(path)
    except YoloError as error:
        return error


def _quick(path: str) -> tuple[int, int] | None:
    """The size by a plain reading of a plain file that has its end, or None when anything is unusual."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            return None
        head = os.read(handle, _HEAD)
        if head[:3] == b"\xff\xd8\xff":
            header = jpeg_header(head)
            if _tail(head, handle, facts.st_size) != _JPEG_END:
                return None
        else:
            header = png_header(lambda position, count: _fetch(head, handle, position, count))
    except (struct.error, IndexError, OSError):
        return None
    finally:
        os.close(handle)
    if header is None or 0 in header.stored or header.stored[0] * header.stored[1] > _MAX_PIXELS:
        return None
    return header.size


def _tail(head: bytes, handle: int, size: int) -> bytes:
    if size <= len(head):
        return head[-2:]
    os.lseek(handle, size - 2, os.SEEK_SET)
    return os.read(handle, 2)


def _fetch(head: bytes, handle: int, position: int, count: int) -> bytes:
    if position + count <= len(head) or not hasattr(os, "pread"):
        return head[position : position + count]
    return os.pread(handle, count, position)


def _is_whole(path: str) -> bool:
    """False for a JPEG or PNG file without its end mark. Something may follow the mark."""
    if Path(path).stat().st_size > _LARGEST:
        return True
    data = Path(path).read_bytes()
    if data[:3] == b"\xff\xd8\xff":
        return data.find(_JPEG_END, max(data.rfind(_JPEG_SCAN), 0)) >= 0
    if data[:4] == b"\x89PNG":
        return b"IEND" in data
    return True
