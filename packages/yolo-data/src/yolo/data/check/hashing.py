"""A perceptual hash, and the search for pictures with nearly the same one.

The hash is the difference hash (dHash; N. Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013): the picture is
reduced to 9 x 8 grey cells, and each of 64 bits says whether a cell is brighter than its left neighbour. It does not
change with size and hardly with compression or brightness.

The search follows G. Manku, A. Jain and A. Das Sarma, "Detecting Near-Duplicates for Web Crawling", WWW 2007, section
3: of two hashes that differ in fewer bits than there are blocks, at least one block of bits is equal, so it is enough
to sort by each block in turn and to compare neighbours.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.data.loaders.base import Pixels

#: Side of the grey picture that settles what the hash suggests.
THUMB = 16
#: Bits in which the hashes of two pictures may differ at most.
DISTANCE = 5
_WIDTH, _HEIGHT = 9, 8
_WINDOW = 256
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def perceptual_hash(image: Pixels) -> int:
    """Return the 64 bits of the difference hash of a picture uint8 ``[H, W, 3]`` RGB."""
    cells = _grey(image, (_WIDTH, _HEIGHT)).astype(np.int16)
    bits = cells[:, 1:] > cells[:, :-1]
    return int(_BITS[bits.ravel()].sum(dtype=np.uint64))


def thumbnail(image: Pixels) -> NDArray[np.uint8]:
    """Return the picture as uint8 ``[THUMB, THUMB]`` grey."""
    return _grey(image, (THUMB, THUMB))


def near_pairs(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Find the pairs of hashes that differ in at most :data:`DISTANCE` bits.

    The time grows with n log n. Where more than 256 hashes share a block of bits, each is compared with the 256 that
    follow it in sorted order: in a large crowd of alike pictures some pairs are missed.

    Args:
        hashes: uint64 ``[n]``, all different.

    Returns:
        int64 ``[k, 2]``, positions, the smaller first, each pair once, sorted.
    """
    count = max(len(hashes), 1)
    found = [np.zeros(0, np.int64)]
    for low, high in itertools.pairwise(np.linspace(0, 64, DISTANCE + 2).astype(np.uint64)):
        # Turned so that the block comes first: the other bits then bring alike hashes together within it.
        width = high - low
        turned = hashes if high == 64 else (hashes << (np.uint64(64) - high)) | (hashes >> high)
        order = np.argsort(turned, kind="stable")
        block, ordered = turned[order] >> (np.uint64(64) - width), hashes[order]
        for step in range(1, min(_WINDOW, len(hashes) - 1) + 1):
            same = block[step:] == block[:-step]
            if not same.any():
                break
            close = np.flatnonzero(same & (np.bitwise_count(ordered[step:] ^ ordered[:-step]) <= DISTANCE))
            one, other = order[close], order[close + step]
            found.append(np.minimum(one, other) * count + np.maximum(one, other))
    keys = np.unique(np.concatenate(found))
    return np.stack([keys // count, keys % count], axis=1)


def _grey(image: Pixels, size: tuple[int, int]) -> NDArray[np.uint8]:
    # Grey of the reduced picture, not of the large one: both steps are linear, and this order is faster.
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
