"""What a cache is made with, and where it lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from yolo.core.errors import UsageError
from yolo.data.config import DataConfig
from yolo.data.loaders import ImageLoader

#: Version of the layout. The 4.x caches of the old code hold pickles: they are never read, only replaced.
VERSION = "5.0.0"

PictureFormat = Literal["jpeg", "raw"]
_OWN_LOADERS = ("default", "fast", "turbojpeg", "encrypted")
_PICTURE_FORMATS: tuple[PictureFormat, ...] = ("jpeg", "raw")


@dataclass(frozen=True)
class CacheSettings:
    """The settings that decide what is in a cache.

    Attributes:
        dataset_format: format that the labels were read with: ``coco``, ``yolo``, or one of a plugin.
        picture_format: how pictures are kept.
        quality: of JPEG, 1 to 100; another one does not make a cache stale.
        size: (width, height) of the letterbox that pictures were reduced to; None: original size.
        fraction: ``data.data_fraction``.
        encrypted: whether everything but the head is encrypted.
        loader: class and a digest of the arguments of an image loader from elsewhere; empty for those of this package,
            which all give the same pictures.
    """

    dataset_format: str
    picture_format: PictureFormat
    quality: int
    size: tuple[int, int] | None
    fraction: float
    encrypted: bool
    loader: str = ""

    @classmethod
    def of(cls, config: DataConfig) -> CacheSettings:
        """Return the settings of the ``data:`` section."""
        return cls(
            dataset_format=config.format,
            picture_format=config.cache_format,
            quality=config.jpeg_quality,
            size=config.size if config.cache_resize_images else None,
            fraction=float(config.data_fraction),
            encrypted=config.cache_encrypt,
            loader=_identity(config.image_loader),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` takes, for JSON."""
        return {
            "dataset_format": self.dataset_format,
            "picture_format": self.picture_format,
            "quality": self.quality,
            "size": None if self.size is None else list(self.size),
            "fraction": self.fraction,
            "encrypted": self.encrypted,
            "loader": self.loader,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> CacheSettings:
        """Read what :meth:`as_dict` gave.

        Raises:
            ValueError: something is missing, or not of its kind; the message names it.
        """
        size = value.get("size")
        sides = None if size is None else tuple(size) if isinstance(size, list | tuple) else ()
        if sides is not None and (len(sides) != 2 or not all(_whole(side) and side > 0 for side in sides)):
            raise ValueError(f"size is {size!r}")
        dataset_format, quality = value.get("dataset_format"), value.get("quality")
        fraction, encrypted = value.get("fraction"), value.get("encrypted")
        picture_format = next((name for name in _PICTURE_FORMATS if name == value.get("picture_format")), None)
        if not isinstance(dataset_format, str):
            raise ValueError(f"dataset_format is {dataset_format!r}")
        if picture_format is None:
            raise ValueError(f"picture_format is {value.get('picture_format')!r}")
        if not isinstance(quality, int) or not _whole(quality):
            raise ValueError(f"quality is {quality!r}")
        if isinstance(fraction, bool) or not isinstance(fraction, int | float):
            raise ValueError(f"fraction is {fraction!r}")
        if not isinstance(encrypted, bool):
            raise ValueError(f"encrypted is {encrypted!r}")
        pair = None if sides is None else (int(sides[0]), int(sides[1]))
        loader = value.get("loader", "")
        if not isinstance(loader, str):
            raise ValueError(f"loader is {loader!r}")
        return cls(dataset_format, picture_format, quality, pair, float(fraction), encrypted, loader)


def folder_name(size: tuple[int, int] | None, fraction: float) -> str:
    """Return the name of a cache's folder: ``.yolo_cache_640x640_f1.0``, ``.yolo_cache_orig_f0.1``."""
    part = "orig" if size is None else f"{size[0]}x{size[1]}"
    return f".yolo_cache_{part}_f{float(fraction)}"


def cache_folder(config: DataConfig) -> Path:
    """Return the folder of a configuration's cache: in ``data.cache_dir``, or in the data set's folder.

    A relative ``cache_dir`` is relative to the data set's folder, as every path of the section is.
    """
    settings = CacheSettings.of(config)
    parent = config.folder if config.cache_dir is None else config.folder / Path(config.cache_dir).expanduser()
    return parent / folder_name(settings.size, settings.fraction)


def check_encryption(config: DataConfig, loader: ImageLoader) -> None:
    """Refuse to keep pictures in clear that a loader took care to decrypt in memory only.

    Raises:
        UsageError: the loader is confidential, there is an image cache, and it is not encrypted.
    """
    if loader.confidential and config.cache_images != "none" and not config.cache_encrypt:
        raise UsageError(
            f"{type(loader).__name__} reads encrypted images, and the image cache would hold them in clear: "
            "set data.cache_encrypt to true, or data.cache_images to none"
        )


def _identity(loader: str | dict[str, Any] | None) -> str:
    """What tells one foreign image loader from another; see :attr:`CacheSettings.loader`."""
    name = loader.get("class_path") or loader.get("use") if isinstance(loader, dict) else loader
    if name is None or str(name) in _OWN_LOADERS or str(name).startswith("yolo.data."):
        return ""
    arguments = json.dumps(loader, sort_keys=True, default=str) if isinstance(loader, dict) else ""
    return f"{name} {hashlib.blake2b(arguments.encode(), digest_size=8).hexdigest()}"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
