"""Datasets, image loaders and augmentations for object detection."""

from __future__ import annotations

from yolo.data.config import DataConfig
from yolo.data.version import __version__

__all__ = ["DataConfig", "__version__"]
