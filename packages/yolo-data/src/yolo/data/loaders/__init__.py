"""Image loaders: the step from a path to pixels."""

from __future__ import annotations

from yolo.data.loaders.base import ImageLoader
from yolo.data.loaders.choose import open_loader
from yolo.data.loaders.default import DefaultImageLoader
from yolo.data.loaders.encrypted import EncryptedImageLoader
from yolo.data.loaders.fast import FastImageLoader
from yolo.data.loaders.turbojpeg import TurboJPEGLoader

__all__ = [
    "DefaultImageLoader",
    "EncryptedImageLoader",
    "FastImageLoader",
    "ImageLoader",
    "TurboJPEGLoader",
    "open_loader",
]
