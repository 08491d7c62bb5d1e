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

    #: True when :meth:`reduced` may give a smaller picture: a caller then says how much it will show.
    can_reduce: bool = False

    #: True when :meth:`upper` may leave out rows that are not needed.
    can_crop: bool = False

    #: True when the pictures must not reach a disk in clear: nothing is drawn of them unless a user asks for it.
    confidential: bool = False

    #: Suffixes in lower case, beyond the usual ones, of files that are images for this loader: ``{".enc"}``. An image
    #: ``a.jpg`` may then be stored as ``a.jpg.enc`` or ``a.enc``, and annotations may go on calling it ``a.jpg``.
    extra_suffixes: frozenset[str] = frozenset()

    @abstractmethod
    def __call__(self, path: str) -> Image.Image | Pixels:
        """Return a PIL image, or the picture upright as a uint8 array ``[H, W, 3]`` in RGB order.

        A PIL image is turned by the EXIF orientation that it still carries, and converted to 8-bit RGB, by the rules of
        :mod:`yolo.core.images`.
        """

    def reduced(self, path: str, least: tuple[int, int]) -> Image.Image | Pixels:
        """As :meth:`__call__`, but the picture may be reduced, see :meth:`read`. Asked where :attr:`can_reduce`."""
        return self(path)

    def upper(self, path: str, least: tuple[int, int] | None, rows: int) -> Image.Image | Pixels:
        """As :meth:`reduced`, but rows may be left undecoded, see :meth:`read`. Asked where :attr:`can_crop`."""
        return self(path) if least is None else self.reduced(path, least)

    def size(self, path: str) -> tuple[int, int]:
        """Return (width, height) of the upright picture, pixels, for a file whose header only this loader can read.

        Here by loading it; override where there is a cheaper way.
        """
        height, width = self.read(path).shape[:2]
        return width, height

    def read(self, path: str, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Pixels:
        """Return the picture as a contiguous uint8 array ``[H, W, 3]`` in RGB order.

        Args:
            path: of the file.
            least: (width, height), pixels, that the caller will show of the upright picture at most. The loaders of
                this package then reduce a JPEG by d = 2, 4 or 8 while decoding it, where that leaves at least this
                much: it has ``ceil(side / d)`` pixels a side, and pixel i covers the pixels ``[i * d, (i + 1) * d)`` of
                the file (:func:`yolo.core.reduction.reduced_scale` gives 1 / d).
            rows: number of rows of the upright picture, in full size and from the top, that the caller will look at;
                interpolating between them may take one more. A loader may leave those below black; the size of the
                picture stays.

        Raises:
            YoloError: naming the path, whatever the loader raised, or when it returned something else.
        """
        try:
            wanted = least if self.can_reduce else None
            if rows is not None and self.can_crop:
                value = self.upper(path, wanted, rows)
            else:
                value = self(path) if wanted is None else self.reduced(path, wanted)
        except YoloError:
            raise
        except Exception as error:  # a loader is foreign code and may raise anything
            raise YoloError(f"{path}: {type(self).__name__} cannot load it: {type(error).__name__}: {error}") from error
        if isinstance(value, Image.Image):
            file = getattr(value, "fp", None)  # still open where the loader left the decoding to us
            try:
                value = to_rgb(value, name=path)
            finally:
                if file is not None:
                    file.close()
        if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3:
            got = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
            raise YoloError(
                f"{path}: {type(self).__name__} returned {got}; it must return a PIL image or a uint8 array [H, W, 3]"
            )
        if 0 in value.shape:
            raise YoloError(f"{path}: {type(self).__name__} returned an empty image")
        return np.ascontiguousarray(value)
