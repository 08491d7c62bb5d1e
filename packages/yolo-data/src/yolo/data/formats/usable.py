"""What is left of a split when images cannot be read."""

from __future__ import annotations

import numpy as np

from yolo.core.errors import YoloError
from yolo.data.labels import LabelTable


def usable_images(table: LabelTable) -> LabelTable:
    """Leave out the images whose size is 0 x 0: those that a collecting report was told cannot be read.

    Raises:
        YoloError: none is left.
    """
    good = table.sizes.all(axis=1)
    if good.all():
        return table
    if not good.any():
        raise YoloError(f"not one of the {len(table)} images can be read")
    return table.select(np.flatnonzero(good))
