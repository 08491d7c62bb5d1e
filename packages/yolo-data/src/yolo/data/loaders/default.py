"""The loader for ordinary image files."""

from __future__ import annotations

from yolo.core.images import read_image
from yolo.data.loaders.base import ImageLoader, Pixels


class DefaultImageLoader(ImageLoader):
    """Decode with Pillow: every common format, EXIF orientation applied, alpha dropped, 16 bit scaled to 8.

    Its decisions (:mod:`yolo.core.images`) hold for all loaders of this package.
    """

    needs_files = True
    can_reduce = True

    def __call__(self, path: str) -> Pixels:
        """Return uint8 ``[H, W, 3]`` RGB; raise YoloError naming the path for anything that is not a sound image."""
        return read_image(path)

    def reduced(self, path: str, least: tuple[int, int]) -> Pixels:
        """As a call, a JPEG reduced where that leaves ``least``."""
        return read_image(path, least=least)
