"""Decoding the upper part of a JPEG, for a caller who shows no more of it.

Half of the pictures of a mosaic lie with their lower part outside the sample. The pixels of a baseline JPEG are coded
row of blocks by row of blocks, so a decoder that is told of a smaller height (the number of lines in the frame header,
ITU-T T.81 section B.2.2) stops there, with the same pixels. What follows is to it "extraneous bytes", about which
libjpeg warns, once, behind the last row. Only that one warning is taken for success.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from yolo.core.decoders.header import Buffer, Header
from yolo.data.loaders.base import Pixels

_BASELINE, _SCAN, _RESTARTS = 0xC0, 0xDA, 0xDD
_BLOCK = 8
_MARGIN = 4  # rows of the output: interpolation, and that of colours, looks at those below
_WORTH = 0.95  # of the rows: beyond that, nothing is gained
_REST = "extraneous bytes before marker"


def decode_upper(data: Buffer, header: Header, factor: int, rows: int, decoder: Any, options: Any) -> Pixels | None:
    """Decode the first rows of an upright JPEG.

    Args:
        data: the whole file.
        header: of it.
        factor: by which each side is reduced.
        rows: of the picture in full size that are needed.
        decoder: a ``TurboJPEG`` that raises OSError with the library's message for every warning.
        options: pixel format and flags of its ``decode``; the flags stop it at the first warning.

    Returns:
        uint8 ``[H, W, 3]`` of the whole picture's size, black below what was decoded; None where that is not possible,
        or not worth while: then the file must be decoded as a whole.
    """
    width, height = header.stored
    kept = -(-(rows + _MARGIN * factor) // _BLOCK) * _BLOCK
    if kept > _WORTH * height or not _in_order(data, header):
        return None
    shortened = bytearray(data)
    struct.pack_into(">H", shortened, header.pixels_from + 5, kept)
    whole = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    upper = whole[: kept // factor]
    try:
        decoder.decode(shortened, scaling_factor=None if factor == 1 else (1, factor), dst=upper, **options)
    except Exception as error:  # whatever it raises for odd data
        if _REST in str(error):
            whole[kept // factor :] = 0
            return whole
    return None


def _in_order(data: Buffer, header: Header) -> bool:
    """Whether all rows are complete from the top, and nothing but Huffman codes stands between them.

    So: baseline, one scan of all colours. Behind a restart marker, the decoder would warn of stray bytes between rows
    in the same words.
    """
    position = header.pixels_from
    colours = data[position + 9]
    if data[position + 1] != _BASELINE or data.find(bytes((0xFF, _RESTARTS)), 0, position) >= 0:
        return False
    while data[position] == 0xFF and data[position + 1] != _RESTARTS:
        if data[position + 1] == _SCAN:
            return data[position + 4] == colours
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False
