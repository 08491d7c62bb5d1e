"""What a runtime is: an exported file, loaded and ready to predict. Importable without torch."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Runtime(Protocol):
    """The ``runtime`` of an :class:`~yolo.core.plugins.ExportBackendSpec`, made with the path of a file.

    It may have more attributes, which ``yolo validate`` then tells: ``metadata`` (what the file says about itself, a
    mapping; other ``preprocessing`` than ours is refused), ``parameters``, ``threads`` and ``device``.

    Attributes:
        class_names: one per class; their numbers as text where the file does not know them.
        image_size: (width, height) of the input, pixels.
        dynamic_batch: whether one call of the file takes any number of images.
    """

    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    dynamic_batch: bool

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network, in several calls where the file has a fixed batch, of which the last may be filled up.

        Args:
            images: ``[B, 3, H, W]``, RGB from 0 to 1, of the file's size.

        Returns:
            ``[B, 4 + classes, A]``: centre x, centre y, width, height in pixels, then one probability per class.

        Raises:
            YoloError: images of another shape.
        """
