"""Measuring some of the images of a split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def choose(available: int, wanted: int | None) -> NDArray[np.intp] | None:
    """Return which images of a split to measure, evenly spread and in order; None for all of them.

    Neighbours in a split are often alike, so its first images would tell little about the others.

    Args:
        available: images of the split.
        wanted: how many; more than there are is all of them.
    """
    if wanted is None or wanted >= available:
        return None
    return (np.arange(wanted) * available // wanted).astype(np.intp)


def describe(images: int, available: int, split: str, fraction: float) -> str:
    """Return words for what was measured, such as ``10 of 80 val images (evenly spread)``."""
    if images < available:
        text = f"{images} of {available} {split} images (evenly spread)"
    else:
        text = f"{images} {split} images"
    return text if fraction == 1 or split == "test" else f"{text}, data.data_fraction {fraction:g}"
