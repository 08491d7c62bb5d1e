"""What reads an image file."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yolo.core.errors import YoloError
from yolo.core.images import to_rgb

Pixels = NDArray[np.uint8]


class ImageLoader(ABC):
    """Read an image from a path.

    Subclass it, implement :meth:`__call__`, and name the class in the configuration::

        data:
          image_loader:
            class_path: my_loaders.CloudStorageLoader
            init_args: {bucket: training}

    An instance is pickled into every worker process: keep clients and open files out of ``__init__`` and create them
    on first use. Close every file before returning.
    """

    #: True when a path that is not a file on this machine cannot be loaded: the formats then refuse it at start.
    needs_files: bool = False

    @abstractmethod
    def __call__(self, path: str) -> Image.Image | Pixels:
        """Return a PIL image, or the picture upright as a uint8 array ``[H, W, 3]`` in RGB order.

        A PIL image is turned by the EXIF orientation that it still carries, and converted to 8-bit RGB, by the rules of
        :mod:`yolo.core.images`.
        """

    def read(self, path: str) -> Pixels:
        """Return the picture as a contiguous uint8 array ``[H, W, 3]`` in RGB order.

        Raises:
            YoloError: naming the path, whatever the loader raised, or when it returned something else.
        """
        try:
            value = self(path)
        except YoloError:
            raise
        except Exception as error:  # a loader is foreign code and may raise anything
            raise YoloError(f"{path}: {type(self).__name__} cannot load it: {type(error).__name__}: {error}") from error
        if isinstance(value, Image.Image):
            value = to_rgb(value, name=path)
        if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3:
            got = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
            raise YoloError(
                f"{path}: {type(self).__name__} returned {got}; it must return a PIL image or a uint8 array [H, W, 3]"
            )
        if 0 in value.shape:
            raise YoloError(f"{path}: {type(self).__name__} returned an empty image")
        return np.ascontiguousarray(value)
