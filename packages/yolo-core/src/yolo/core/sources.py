"""What can be predicted on: files, folders, pictures in memory, and any mixture of them. Importable without torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.core.images import IMAGE_SUFFIXES, find_images, read_image, to_rgb

#: One picture: a file, a Pillow image, or uint8 ``[H, W, 3]`` RGB.
SourceItem: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
#: One picture, a folder, or any iterable of pictures and folders, of any length.
Source: TypeAlias = SourceItem | Iterable[SourceItem]


class Picture(NamedTuple):
    """A picture that has been read.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB, upright.
        path: the file it came from, if any.
    """

    image: NDArray[np.uint8]
    path: Path | None


def iter_items(source: Source) -> Iterator[Path | Image.Image | NDArray[np.uint8]]:
    """Take a source apart into single pictures, without reading them; folders become the files in them, sorted.

    Raises:
        YoloError: a folder without images.
        UsageError: something that is no source.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            yield from _files_in(path)
        else:
            yield path
    elif isinstance(source, (Image.Image, np.ndarray)):
        yield source
    elif isinstance(source, Iterable):
        for item in source:
            yield from iter_items(item)
    else:
        raise UsageError(f"cannot predict on a {type(source).__name__}; give a path, a PIL image or a uint8 RGB array")


def read_item(item: Path | Image.Image | NDArray[np.uint8]) -> Picture:
    """Read one item of :func:`iter_items`.

    Raises:
        ImageError: an unreadable file.
        UsageError: an array that is not uint8 ``[H, W, 3]``.
    """
    if isinstance(item, Path):
        return Picture(read_image(item), item)
    if isinstance(item, Image.Image):
        name = getattr(item, "filename", "") or "the image"
        return Picture(to_rgb(item, name=str(name)), None)
    if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or 0 in item.shape:
        raise UsageError(f"an image array must be uint8 [height, width, 3] in RGB order, not {item.dtype} {item.shape}")
    return Picture(item, None)


def _files_in(folder: Path) -> list[Path]:
    files = find_images(folder)
    if not files:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise YoloError(f"there are no images in the folder {str(folder)!r} (looked for {known}, in sub-folders, too)")
    return files
