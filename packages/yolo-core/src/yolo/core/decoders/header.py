"""Headers of plain JPEG and PNG files, read without a library.

The fast decoders are given only pictures of which nothing is unusual. Everything else goes to
:mod:`yolo.core.images`, which knows the rules, so that all loaders come to the same decision about every file. Sources:
ITU-T T.81 (JPEG) appendix B, the EXIF 2.3 standard, the PNG specification (third edition) section 11.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from typing import Literal

Buffer = bytes | mmap
#: Give bytes from a position of a file, fewer at its end: ``fetch(position, count)``.
Fetch = Callable[[int, int], bytes]

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COMMON_FRAMES = (0xC0, 0xC1, 0xC2)  # Huffman coded: baseline, extended, progressive
_END = b"\xff\xd9"
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXT = (b"Raw profile type", b"XML:com.adobe.xmp")  # may hold an orientation
_PNG_CHUNKS = frozenset((b"IHDR", b"IDAT", b"PLTE", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"sBIT", b"bKGD", b"tIME"))
_PNG_COLOURS = (0, 2, 6)  # grey, RGB, RGBA


@dataclass(frozen=True)
class Header:
    """What the header of a picture says.

    Attributes:
        kind: of the file, by its content.
        stored: (width, height) of the pixels in the file.
        orientation: EXIF orientation, 1 for upright.
        ordinary: 8 bits a sample, grey or RGB, a coding that every decoder knows; nothing that needs a decision.
        pixels_from: position in the file behind which the coded pixels lie.
    """

    kind: Literal["jpeg", "png"]
    stored: tuple[int, int]
    orientation: int
    ordinary: bool
    pixels_from: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright picture."""
        return (self.stored[1], self.stored[0]) if self.orientation >= 5 else self.stored


def plain_header(data: Buffer) -> Header | None:
    """Return the header of a whole file in memory when it is an ordinary picture that is all there, else None."""
    try:
        if data[:3] == b"\xff\xd8\xff":
            header = jpeg_header(data)
            if header is None or (data[-2:] != _END and data.find(_END, header.pixels_from) < 0):
                return None
        else:
            header = png_header(lambda position, count: data[position : position + count])
    except (struct.error, IndexError):
        return None
    return header if header is not None and header.ordinary and 0 not in header.stored else None


def jpeg_header(head: Buffer) -> Header | None:
    """Read the first bytes of a JPEG file, None when they do not reach to the frame, or are unusual.

    Raises:
        struct.error: the data is cut.
        IndexError: likewise.
    """
    position, orientation, exif_seen = 2, 1, False
    while position + 9 <= len(head):
        if head[position] != 0xFF:
            return None
        marker, length = head[position + 1], int.from_bytes(head[position + 2 : position + 4], "big")
        body = position + 4
        if marker in _FRAMES:
            bits, height, width, components = struct.unpack_from(">BHHB", head, body)
            ordinary = marker in _COMMON_FRAMES and bits == 8 and components in (1, 3)
            return Header("jpeg", (width, height), orientation, ordinary, position)
        if marker < 0xC0 or marker in (0xD8, 0xD9, 0xDA, 0xFF):
            return None
        position += 2 + length
        if marker != 0xE1:
            continue
        payload = head[body:position]
        if payload.startswith(b"Exif\0\0"):
            found = None if exif_seen else _orientation(payload[6:])
            if found is None:
                return None
            exif_seen, orientation = True, found if 1 <= found <= 8 else 1
        elif b"tiff:Orientation" in payload.replace(b'tiff:Orientation="1"', b""):  # XMP; the careful reader decides
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


def png_header(fetch: Fetch) -> Header | None:
    """Read a PNG file chunk by chunk to its end, because an orientation may stand behind the pixels.

    Returns:
        The header; None when the file is no PNG, is cut, or has a chunk that may hold an orientation.

    Raises:
        struct.error: the file is cut.
    """
    first = fetch(0, 33)
    if first[:8] != _PNG or first[12:16] != b"IHDR":
        return None
    width, height, bits, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", first, 16)
    ordinary = bits == 8 and colour in _PNG_COLOURS and interlace == 0
    position = 8
    while True:
        chunk = fetch(position, 28)
        length, kind = struct.unpack_from(">I4s", chunk)
        if kind == b"IEND":
            return Header("png", (width, height), 1, ordinary, 33)
        if kind == b"eXIf" or (kind in (b"tEXt", b"zTXt", b"iTXt") and chunk[8:].startswith(_PNG_TEXT)):
            return None
        ordinary = ordinary and (kind in _PNG_CHUNKS or kind == b"tEXt")
        position += 12 + length
