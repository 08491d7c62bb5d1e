"""Decoding outside of a file: distributions of box sides to boxes in pixels. Needs numpy only.

For files of integers, whose 256 steps over the picture's width would be too coarse for boxes in pixels. A distribution
over the bins 0, 1, ... stands for its mean (Generalized Focal Loss, arXiv:2006.04388, eq. 3), in units of the stride.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Names of the outputs, and of this form of output in a file's metadata.
LOGITS, SCORES = "logits", "scores"
FORM = "distributions"


def decode_distributions(
    logits: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    image_size: tuple[int, int],
    strides: Sequence[int],
) -> NDArray[np.float32]:
    """Return the documented output of a detector.

    Args:
        logits: ``[B, 4 * bins, A]``: left, top, right, bottom.
        scores: ``[B, classes, A]``, probabilities.
        image_size: (width, height) of the input, pixels.
        strides: pixels per cell of each scale, in the order of the anchors.

    Returns:
        ``[B, 4 + classes, A]``: centre x, centre y, width, height in pixels, then the scores.
    """
    batch, rows, anchors = logits.shape
    bins = rows // 4
    shifted = logits.reshape(batch, 4, bins, anchors)
    weights = np.exp(shifted - shifted.max(axis=2, keepdims=True))
    means = np.einsum("bsna,n->bsa", weights, np.arange(bins, dtype=np.float32)) / weights.sum(axis=2)
    centers, scales = _grid(image_size, strides)
    sides = means * scales
    before, after = sides[:, :2], sides[:, 2:]
    boxes = np.concatenate([centers + (after - before) / 2, before + after], axis=1)
    return np.concatenate([boxes, scores], axis=1).astype(np.float32)


def _grid(image_size: tuple[int, int], strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres of all cells ``[2, A]`` and their strides ``[A]``, pixels; by scale, then row by row."""
    centers, scales = [], []
    for stride in strides:
        columns, rows = image_size[0] // stride, image_size[1] // stride
        y, x = np.mgrid[:rows, :columns].astype(np.float32)
        centers.append((np.stack([x.ravel(), y.ravel()]) + np.float32(0.5)) * np.float32(stride))
        scales.append(np.full(rows * columns, stride, np.float32))
    return np.concatenate(centers, axis=1), np.concatenate(scales)
