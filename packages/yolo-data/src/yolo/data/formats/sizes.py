"""Width and height of many image files, from their headers alone."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError
from yolo.core.images import image_size
from yolo.data.loaders.base import ImageLoader

_HEAD = 32768
_CHUNK = 256
_MAX_PIXELS = 100_000_000  # above this the careful reader decides
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNG_TEXT = (b"Raw profile type", b"XML:com.adobe.xmp")


def read_sizes(paths: Sequence[str], loader: ImageLoader) -> NDArray[np.int32]:
    """Return int32 ``[n, 2]``: width and height of each upright picture.

    JPEG and PNG headers are read here, everything else (and everything odd) by :func:`yolo.core.images.image_size`.
    A file that has no readable header is loaded when the loader can read more than plain image files.

    Raises:
        YoloError: naming the first file that cannot be used, and how many there are.
    """
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda chunk: [_size(path, loader) for path in chunk], chunks)
        results = [size for part in parts for size in part]
    errors = [result for result in results if isinstance(result, YoloError)]
    if errors:
        more = f" ({len(errors) - 1} more images cannot be used either)" if len(errors) > 1 else ""
        raise YoloError(f"{errors[0]}{more}; remove or replace it") from errors[0]
    return np.array(results, np.int32).reshape(-1, 2)


def _size(path: str, loader: ImageLoader) -> tuple[int, int] | YoloError:
    try:
        return _quick(path) or image_size(path)
    except YoloError as error:
        if loader.needs_files:
            return error
    try:
        height, width = loader.read(path).shape[:2]
    except YoloError as error:
        return error
    return width, height


def _quick(path: str) -> tuple[int, int] | None:
    """The size by a plain reading of a plain file, or None when anything is unusual."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        head = os.read(handle, _HEAD)
        if head[:3] == b"\xff\xd8\xff":
            size = _jpeg(head)
        elif head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR":
            size = _png(head, handle)
        else:
            return None
    except (struct.error, IndexError, OSError):
        return None
    finally:
        os.close(handle)
    if size is None or 0 in size or size[0] * size[1] > _MAX_PIXELS:
        return None
    return size


def _jpeg(head: bytes) -> tuple[int, int] | None:
    position, turned, exif_seen = 2, False, False
    while position + 9 <= len(head):
        if head[position] != 0xFF:
            return None
        marker, length = head[position + 1], int.from_bytes(head[position + 2 : position + 4], "big")
        body = position + 4
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", head, body + 1)
            return (height, width) if turned else (width, height)
        if marker < 0xC0 or marker in (0xD8, 0xD9, 0xDA, 0xFF):
            return None
        position += 2 + length
        if marker == 0xE1:
            payload = head[body:position]
            if payload.startswith(b"Exif\0\0"):
                if exif_seen:
                    return None
                exif_seen, orientation = True, _orientation(payload[6:])
                if orientation is None:
                    return None
                turned = orientation in (5, 6, 7, 8)
            elif b"Orientation" in payload:  # in XMP: the careful reader knows the rules
                return None
    return None


def _orientation(tiff: bytes) -> int | None:
    """Orientation of an EXIF block, 1 when it has none, None when it cannot be read plainly (TIFF 6.0, section 2)."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(count):
        tag, kind, number = struct.unpack_from(order + "HHI", tiff, start + 2 + 12 * entry)
        if tag == 0x0112:
            if kind != 3 or number != 1:
                return None
            value: int = struct.unpack_from(order + "H", tiff, start + 10 + 12 * entry)[0]
            return value
    return None if b"Orientation" in tiff else 1


def _png(head: bytes, handle: int) -> tuple[int, int] | None:
    width, height = struct.unpack_from(">II", head, 16)
    if not hasattr(os, "pread"):
        return None
    position = 8
    while True:  # to the end: an orientation may stand behind the pixels
        chunk = head[position : position + 28]
        if len(chunk) < 28:
            chunk = os.pread(handle, 28, position)
        length, kind = struct.unpack_from(">I4s", chunk)
        if kind == b"IEND":
            return width, height
        if kind == b"eXIf" or (kind in (b"tEXt", b"zTXt", b"iTXt") and chunk[8:].startswith(_PNG_TEXT)):
            return None
        position += 12 + length
