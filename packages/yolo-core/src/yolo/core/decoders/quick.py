"""Decoding ordinary pictures with a fast decoder, by the rules that hold for all."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.core.decoders.header import Buffer, Header, plain_header
from yolo.core.reduction import reduction

Pixels = NDArray[np.uint8]
#: Decode the stored pixels to RGB, each side reduced by 1, 2, 4 or 8 (JPEG only); None when the decoder complains.
Decoder = Callable[[Buffer, Header, int], Pixels | None]

_MOST_PIXELS = 64_000_000  # a larger picture is the careful reader's: it warns or refuses
_REDUCED = {1: 0, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def decode_plain(data: Buffer, decoder: Decoder, *, least: tuple[int, int] | None = None) -> Pixels | None:
    """Decode a file in memory if it is an ordinary picture.

    Args:
        data: the whole file.
        decoder: makes the pixels.
        least: (width, height) that is needed of the upright picture, see :func:`yolo.core.images.read_image`.

    Returns:
        uint8 ``[H, W, 3]`` RGB, upright; None when the careful reader must decide.
    """
    header = plain_header(data)
    if header is None or header.stored[0] * header.stored[1] > _MOST_PIXELS:
        return None
    factor = 1
    if least is not None and header.kind == "jpeg":
        factor = reduction(header.size, least, turned=header.orientation > 1)
    pixels = decoder(data, header, factor)
    width, height = header.stored
    if pixels is None or pixels.shape != (-(-height // factor), -(-width // factor), 3):
        return None
    return upright(pixels, header.orientation)


def decode_opencv(data: Buffer, header: Header, factor: int) -> Pixels | None:
    """Decode with OpenCV (a :data:`Decoder`)."""
    # The orientation is applied by our own rules, to the stored pixels.
    flags = (_REDUCED[factor] or cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is None or image.dtype != np.uint8 or image.ndim != 3:
            return None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), np.uint8)
    except cv2.error:
        return None


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Mirror and turn stored pixels ``[H, W, 3]`` by an EXIF orientation of 1 to 8 (EXIF 2.3, tag 0x0112)."""
    turned: cv2.typing.MatLike = pixels
    if orientation in (3, 7):
        turned = cv2.rotate(turned, cv2.ROTATE_180)
    if orientation in (2, 4):
        turned = cv2.flip(turned, 1 if orientation == 2 else 0)
    elif orientation in (5, 7):
        turned = cv2.transpose(turned)
    elif orientation in (6, 8):
        clockwise = orientation == 6
        turned = cv2.rotate(turned, cv2.ROTATE_90_CLOCKWISE if clockwise else cv2.ROTATE_90_COUNTERCLOCKWISE)
    return np.asarray(turned, np.uint8)
