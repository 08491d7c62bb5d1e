"""How far a JPEG may be reduced while it is decoded, so that no pixel is made that nobody sees.

A JPEG decoder can take the 8 x 8 blocks of coefficients to 4 x 4, 2 x 2 or 1 x 1 pixels (libjpeg's documentation,
"scaled decoding"), which costs a fraction of the full picture. Sizes are (width, height) in pixels.
"""

from __future__ import annotations

#: What sides can be divided by, the strongest first.
FACTORS: tuple[int, ...] = (8, 4, 2)


def reduction(size: tuple[int, int], least: tuple[int, int], *, turned: bool = False) -> int:
    """Return the strongest reduction that leaves at least ``least``: 8, 4, 2, or 1 for none.

    Args:
        size: of the picture, upright.
        least: of the picture that will be shown.
        turned: the file's pixels are mirrored or turned when it is loaded. Then only what divides both sides without a
            rest is used: a last pixel that is cut would become the first, and everything would be shifted.

    Returns:
        d; the reduced picture has ``ceil(side / d)`` pixels a side.
    """
    for factor in FACTORS:
        fits = all(side // factor >= max(1, wanted) for side, wanted in zip(size, least, strict=True))
        if fits and not (turned and any(side % factor for side in size)):
            return factor
    return 1


def reduced_scale(size: tuple[int, int], seen: tuple[int, int]) -> tuple[float, float]:
    """Pixels of a loaded picture per pixel of its file, along x and y.

    Args:
        size: (width, height) of the file's picture.
        seen: (width, height) that was loaded.

    Returns:
        1 / d where ``seen`` is ``ceil(size / d)`` for a reduction d, because the last pixel then lies partly outside
        the picture; else the quotient of the sides.
    """
    for factor in FACTORS:
        if all(-(-side // factor) == got for side, got in zip(size, seen, strict=True)):
            return 1 / factor, 1 / factor
    return seen[0] / size[0], seen[1] / size[1]
