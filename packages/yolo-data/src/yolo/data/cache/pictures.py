"""How one picture is kept in a record, and where it came from.

A record, before it is sealed: header [52 bytes], then the picture.

* header, little endian: kind ``j`` or ``r`` [1], nothing [3], height [4], width [4], then of the source file: size [8],
  modification time [8], change time [8], both in nanoseconds, BLAKE2b of its bytes (RFC 7693) [16];
* ``j``: a JPEG file; ``r``: the uint8 ``[H, W, 3]`` RGB array, compressed as one LZ4 block.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import time
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import lz4.block  # type: ignore[import-untyped]  # it has no type information
import numpy as np

from yolo.core.decoders.header import Buffer, Header, plain_header
from yolo.core.errors import YoloError
from yolo.core.images import ImageError, decode_image
from yolo.core.reduction import reduction
from yolo.data.cache.errors import DamagedRecordError
from yolo.data.cache.seal import Bytes
from yolo.data.loaders.base import Pixels
from yolo.data.loaders.turbojpeg import TurboJPEGLoader

DIGEST_SIZE = 16
_HEADER = struct.Struct("<c3xIIqqq16s")


@dataclass(frozen=True)
class SourceFacts:
    """What a source file was when its picture was stored; all zero where the path is no file.

    Attributes:
        size: bytes.
        mtime_ns: time of the last modification, nanoseconds since 1970.
        ctime_ns: time of the last change of the file's entry; 0 when the file was so new that a later change might
            have the same times.
        digest: 16 bytes, BLAKE2b of the file's bytes.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    digest: bytes

    @staticmethod
    def of(path: str | Path) -> SourceFacts:
        """Look at a file and hash it; all zero when the path is no file.

        Raises:
            YoloError: it is a file that cannot be read.
        """
        try:
            found = os.stat(path)  # noqa: PTH116  # hot
            if not stat.S_ISREG(found.st_mode):
                return _NO_FILE
            with Path(path).open("rb") as file:
                digest = _digest(file)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return _NO_FILE
        except OSError as error:
            raise YoloError(f"{os.fspath(path)!r} cannot be read: {error.strerror}") from error
        settled = time.time_ns() - max(found.st_ctime_ns, found.st_mtime_ns) > _COARSEST_CLOCK_NS
        return SourceFacts(found.st_size, found.st_mtime_ns, found.st_ctime_ns if settled else 0, digest)

    def unchanged(self, path: str | Path) -> bool:
        """Whether a file still has the contents it had; they are read only when its times are others."""
        try:
            found = os.stat(path)  # noqa: PTH116  # hot
        except (OSError, ValueError):
            return self == _NO_FILE
        if not stat.S_ISREG(found.st_mode):
            return self == _NO_FILE
        if found.st_size != self.size:
            return False
        if (found.st_mtime_ns, found.st_ctime_ns) == (self.mtime_ns, self.ctime_ns):
            return True
        return SourceFacts.of(path).digest == self.digest


# A file that is rewritten within one tick of its file system's clock keeps its times; FAT's has two seconds.
_COARSEST_CLOCK_NS = 2_000_000_000
_NO_FILE = SourceFacts(0, 0, 0, bytes(DIGEST_SIZE))


def _digest(file: BufferedReader) -> bytes:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_SIZE)).digest()


class RecordInfo(NamedTuple):
    """What the header of a record says."""

    facts: SourceFacts
    size: tuple[int, int]


def encode_record(image: Pixels, facts: SourceFacts, *, picture_format: Literal["jpeg", "raw"], quality: int) -> bytes:
    """Make the content of a record.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        facts: of its source.
        picture_format: ``jpeg`` (4:2:0; a picture with a side of more than 65,500 pixels is kept as ``raw``)
            or ``raw``.
        quality: of JPEG, 1 to 100.

    Raises:
        YoloError: the picture is too large for a record.
    """
    height, width = image.shape[:2]
    if image.nbytes > _MOST_BYTES:
        raise YoloError(f"a picture of {width}x{height} pixels is too large for a cache: set data.cache_resize_images")
    kind = _JPEG if picture_format == "jpeg" and max(height, width) <= _JPEG_SIDE else _RAW
    header = _HEADER.pack(kind, height, width, facts.size, facts.mtime_ns, facts.ctime_ns, facts.digest)
    if kind == _RAW:
        pixels = np.ascontiguousarray(image).reshape(-1)
        return header + bytes(lz4.block.compress(pixels.data, store_size=False))
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise YoloError(f"OpenCV cannot make a JPEG of {width}x{height} pixels")
    return b"".join((header, encoded.data))


def decode_record(content: Bytes, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Pixels:
    """Return the picture of a record.

    Args:
        content: of the record.
        least: (width, height) that is needed of the picture: a JPEG may be reduced, see :meth:`ImageLoader.read`.
        rows: number of rows that are needed, from the top, likewise.

    Returns:
        A new contiguous array, uint8 ``[H, W, 3]`` RGB.

    Raises:
        DamagedRecordError: it is not what :func:`encode_record` made.
    """
    kind, height, width = _header(content)[:3]
    if kind == _RAW:
        return _unpack(memoryview(content)[_HEADER.size :], height, width)
    return _decode(bytes(memoryview(content)[_HEADER.size :]), (width, height), least, rows)


def record_facts(content: Bytes) -> RecordInfo:
    """Return what the source was, and (width, height) of the stored picture.

    Raises:
        DamagedRecordError: the content is no record.
    """
    _, height, width, size, mtime, ctime, digest = _header(content)
    return RecordInfo(SourceFacts(size, mtime, ctime, digest), (width, height))


_JPEG, _RAW = b"j", b"r"
_JPEG_SIDE = 65_500  # what libjpeg writes
_MOST_BYTES = 0x7E000000  # what LZ4 takes at once
_LARGE = 64_000_000  # pixels; larger ones are left to the careful reader
_LZ4_RATIO = 255  # a compressed byte stands for this many at most (LZ4 block format, "extended" lengths)


class _Decoder(TurboJPEGLoader):
    """The decoder of the image loaders, for bytes in memory."""

    def decode(self, data: Buffer, header: Header, factor: int, rows: int | None) -> Pixels | None:
        return self._decode(data, header, factor, rows)


@lru_cache(maxsize=1)
def _decoder() -> _Decoder:
    return _Decoder()


def _decode(data: bytes, size: tuple[int, int], least: tuple[int, int] | None, rows: int | None) -> Pixels:
    header = plain_header(data)
    if header is None or (header.kind, header.stored, header.orientation) != ("jpeg", size, 1):
        raise DamagedRecordError("its JPEG is not the picture that its header tells of")
    if size[0] * size[1] > _LARGE:
        try:
            return np.require(decode_image(data, name="a cached picture", least=least), requirements=["C", "W"])
        except ImageError as error:
            raise DamagedRecordError(f"it cannot be decoded: {error}") from error
    factor = 1 if least is None else reduction(size, least)
    pixels = _decoder().decode(data, header, factor, rows)
    if pixels is None or pixels.shape != (-(-size[1] // factor), -(-size[0] // factor), 3):
        raise DamagedRecordError("its JPEG cannot be decoded")
    return pixels


def _header(content: Bytes) -> tuple[bytes, int, int, int, int, int, bytes]:
    if len(content) <= _HEADER.size:
        raise DamagedRecordError("it is cut")
    kind, height, width, size, mtime, ctime, digest = _HEADER.unpack_from(content)
    if kind not in (_JPEG, _RAW) or not 0 < height * width * 3 <= _MOST_BYTES:
        raise DamagedRecordError("it is no picture")
    return kind, height, width, size, mtime, ctime, digest


def _unpack(packed: memoryview, height: int, width: int) -> Pixels:
    size = height * width * 3
    if size > _LZ4_RATIO * len(packed):  # the decompressor takes the memory before it looks
        raise DamagedRecordError("its compressed pixels are fewer than its header tells of")
    try:
        pixels = lz4.block.decompress(packed, uncompressed_size=size, return_bytearray=True)
    except lz4.block.LZ4BlockError as error:
        raise DamagedRecordError("its compressed pixels cannot be read") from error
    if len(pixels) != size:
        raise DamagedRecordError("its compressed pixels are fewer than its header tells of")
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
