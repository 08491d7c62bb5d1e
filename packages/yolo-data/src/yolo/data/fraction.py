"""Training on a share of a data set: the same images every time, of every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import UsageError
from yolo.data.labels import LabelTable

_BACKGROUND = -1


def take_fraction(table: LabelTable, fraction: float, *, seed: int = 0) -> LabelTable:
    """Choose a share of the images of every class.

    Images are grouped by their primary class, the label that comes first (images without a box are a group too), and
    each group gives its share, rounded, and one image at least. A class that is nowhere the primary one keeps an image
    as well. For one seed a smaller fraction is a part of a larger one, as long as no such class needs an image.

    Args:
        table: labels of a split.
        fraction: above 0 to 1; 1 returns the table itself.
        seed: of the choice.

    Returns:
        The chosen images, in the table's order.

    Raises:
        UsageError: the fraction is out of its range.
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"data.data_fraction is {fraction}: it must be above 0 and at most 1")
    if fraction == 1 or not len(table):
        return table
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(table))
    primary = primary_classes(table)[order]
    chosen = np.zeros(len(table), np.bool_)
    for group in np.unique(primary):
        members = order[primary == group]
        chosen[members[: max(1, round(fraction * len(members)))]] = True
    _keep_every_class(table, order, chosen)
    return table.select(np.flatnonzero(chosen))


def primary_classes(table: LabelTable) -> NDArray[np.int64]:
    """Return the class of each image's first box, int64 ``[n]``; -1 where it has none. Crowd regions do not count."""
    owners, labels = _owners(table)
    images, first = np.unique(owners, return_index=True)
    primary = np.full(len(table), _BACKGROUND, np.int64)
    primary[images] = labels[first]
    return primary


def _owners(table: LabelTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Image and class of every box that is trained on, in the table's order."""
    real = ~table.crowd
    return np.repeat(np.arange(len(table)), np.diff(table.offsets))[real], table.labels[real]


def _keep_every_class(table: LabelTable, order: NDArray[np.int64], chosen: NDArray[np.bool_]) -> None:
    """Add, for each class that the choice lost, the image with it that comes first in the drawn order."""
    owners, labels = _owners(table)
    rank = np.argsort(order)
    for lost in np.setdiff1d(labels, labels[chosen[owners]]):
        if not (chosen[owners] & (labels == lost)).any():  # an image added for another class may hold it
            candidates = owners[labels == lost]
            chosen[candidates[np.argmin(rank[candidates])]] = True
