"""The size of a network's input: an int or a pair, from Python or from a command line. Importable without torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from yolo.core.errors import UsageError

#: (width, height) where nothing else is known, pixels.
DEFAULT_SIZE = (640, 640)
_PAIR = re.compile(r"\s*(\d+)\s*(?:[xX,]\s*(\d+)\s*)?")


def check_image_size(
    value: int | str | Sequence[int], *, stride: int = 32, name: str = "image size"
) -> tuple[int, int]:
    """Return (width, height) in pixels of a network's input.

    >>> check_image_size(640), check_image_size("640x384"), check_image_size([320, 256])
    ((640, 640), (640, 384), (320, 256))

    Args:
        value: a side, a pair (width, height), or either as text: ``"640"``, ``"640x384"``, ``"640,384"``.
        stride: of the network's coarsest scale, pixels; both sides must be multiples of it.
        name: for the message.

    Raises:
        UsageError: anything else; the message names the nearest multiples.
    """
    sides = _sides(value)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UsageError(f"{name} must be one or two positive whole numbers (width, height), not {value!r}")
    for side in sides:
        if side % stride:
            lower = side // stride * stride
            nearest = f"{lower} or {lower + stride}" if lower else f"{stride}"
            raise UsageError(f"{name} {side} is not a multiple of {stride} (the coarsest stride); use {nearest}")
    return sides[0], sides[1]


def _sides(value: int | str | Sequence[int]) -> list[int]:
    if isinstance(value, str):
        found = _PAIR.fullmatch(value)
        return [int(found[1]), int(found[2] or found[1])] if found else []
    return [value, value] if isinstance(value, int) else list(value)
