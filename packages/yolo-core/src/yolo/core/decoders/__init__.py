"""Ordinary JPEG and PNG files by OpenCV, in half of the time or less; everything else by :mod:`yolo.core.images`."""

from __future__ import annotations

import os

from yolo.core.decoders.contents import contents
from yolo.core.decoders.quick import Pixels, decode_opencv, decode_plain
from yolo.core.images import decode_image, read_image

__all__ = ["decode_picture", "read_picture"]


def read_picture(path: str | os.PathLike[str]) -> Pixels:
    """Read one picture file: the pixels and the refusals of :func:`~yolo.core.images.read_image`, sooner."""
    with contents(os.fspath(path), use_mmap=True) as data:
        pixels = None if data is None else decode_plain(data, decode_opencv)
    return read_image(path) if pixels is None else pixels


def decode_picture(data: bytes, *, name: str) -> Pixels:
    """Decode an encoded picture held in memory, as :func:`~yolo.core.images.decode_image`; ``name`` is for messages."""
    pixels = decode_plain(data, decode_opencv)
    return decode_image(data, name=name) if pixels is None else pixels
