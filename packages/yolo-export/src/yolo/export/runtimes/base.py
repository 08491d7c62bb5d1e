"""What a runtime is: an exported file, loaded and ready to predict. Importable without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from yolo.export.backends.base import ExportError

Images = NDArray[np.float32]


class Runtime(Protocol):
    """The ``runtime`` of an :class:`~yolo.core.plugins.ExportBackendSpec`, made with the path of a file.

    It may have more attributes, which ``yolo validate`` then tells: ``metadata`` (what the file says about itself, a
    mapping; other ``preprocessing`` than ours is refused), ``parameters``, ``threads`` and ``device``. One that takes
    images of any size has ``dynamic_size = True`` and the ``stride`` whose multiples they are. One with a second output
    of finished detections has ``has_nms = True`` and a method ``detect``: from one image ``[1, 3, H, W]`` to rows
    ``[n, 6]`` of x1, y1, x2, y2, score and class.

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


def require_images(images: Images, path: Path, image_size: tuple[int, int], *, step: int | None = None) -> None:
    """Refuse what is no batch of images that a file takes.

    Args:
        images: to look at.
        path: of the file, for the message.
        image_size: (width, height) that it takes, pixels.
        step: for a file that takes any size: of which both sides are multiples.

    Raises:
        ExportError: another shape.
    """
    width, height = image_size
    fits = images.ndim == 4 and images.shape[1] == 3 and len(images) > 0
    if fits and step is not None:
        fits = all(side > 0 and side % step == 0 for side in images.shape[2:])
    elif fits:
        fits = images.shape[2:] == (height, width)
    if not fits:
        sides = (
            f"{height}, {width}"
            if step is None
            else f"height, width] in multiples of {step}, such as [{height}, {width}"
        )
        raise ExportError(f"{str(path)!r} takes images [batch, 3, {sides}], not {list(images.shape)}")


def in_batches(run: Callable[[Images], Images], images: Images, batch: int | None) -> Images:
    """Run a file that takes batches of one size on any number of images; the last batch is filled up with black ones.

    Args:
        run: the file.
        images: ``[B, 3, H, W]``.
        batch: that it takes; None for any.
    """
    images = np.ascontiguousarray(images, dtype=np.float32)
    step = batch or len(images)
    count, missing = len(images), -len(images) % step
    if missing:
        images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.float32)])
    return np.concatenate([run(images[start : start + step]) for start in range(0, len(images), step)])[:count]
