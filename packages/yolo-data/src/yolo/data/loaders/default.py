"""The loader for ordinary image files."""

from __future__ import annotations

from yolo.core.images import read_image
from yolo.data.loaders.base import ImageLoader, Pixels


class DefaultImageLoader(ImageLoader):
    """Decode with Pillow: every common format, EXIF orientation applied, alpha dropped, 16 bit scaled to 8."""

    needs_files = True

    def __call__(self, path: str) -> Pixels:
        """Return uint8 ``[H, W, 3]`` RGB; raise YoloError naming the path for anything that is not a sound image."""
        return read_image(path)
