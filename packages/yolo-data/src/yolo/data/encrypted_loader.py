"""The encrypted loader under the name that configurations use."""

from __future__ import annotations

from yolo.data.loaders.encrypted import EncryptedImageLoader

__all__ = ["EncryptedImageLoader"]
