"""Rows of different lengths in dense tensors, and maxima whose ties have a defined winner."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SMALL = 64  # rows up to this length may share a block whatever their lengths


def row_blocks(lengths: Tensor, budget: int) -> Iterator[tuple[Tensor, int]]:
    """Group rows of similar lengths, so that a padded rectangle per group wastes little.

    Args:
        lengths: int64 ``[R]``; rows of length 0 are left out.
        budget: limit of rows times width of a group, which a single row may exceed.

    Yields:
        Row numbers (int64, on the device of ``lengths``) and the width, the length of the longest.
    """
    on_host: NDArray[np.int64] = lengths.cpu().numpy()
    order = np.argsort(-on_host, kind="stable")
    ascending = on_host[order][::-1]
    end = len(order) - int(np.searchsorted(ascending, 1))
    start = 0
    while start < end:
        longest = int(on_host[order[start]])
        shortest = 1 if longest <= _SMALL else longest // 2
        similar = len(order) - int(np.searchsorted(ascending, shortest))
        stop = min(similar, start + max(1, budget // longest))
        yield torch.from_numpy(order[start:stop]).to(lengths.device), longest
        start = stop


def rank(value: Tensor, index: Tensor, count: int) -> Tensor:
    """Integers that order like (value, reversed index), so that the lower index wins among equal values.

    Args:
        value: float32, at least 0 (their bits order like integers); NaN counts as 0.
        index: int64 from 0 to ``count - 1``, broadcasts against ``value``.
        count: number of indices, below 2^32.

    Returns:
        int64 keys, at least 0; :func:`unrank` reads them.
    """
    return (value.nan_to_num(0.0).view(torch.int32).long() << 32) | (count - 1 - index)


def unrank(key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Value and index of keys that :func:`rank` made with the same ``count``."""
    return (key >> 32).int().view(torch.float32), count - 1 - (key & 0xFFFFFFFF)
