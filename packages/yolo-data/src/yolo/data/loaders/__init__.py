"""Image loaders: the step from a path to pixels."""

from __future__ import annotations

from yolo.data.loaders.base import ImageLoader
from yolo.data.loaders.choose import open_loader
from yolo.data.loaders.default import DefaultImageLoader

__all__ = ["DefaultImageLoader", "ImageLoader", "open_loader"]
