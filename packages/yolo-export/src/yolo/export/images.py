"""Pictures of a data set, read as a training reads them. Needs the extra ``data``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import UsageError, YoloError

if TYPE_CHECKING:
    from yolo.data.config import DataConfig


@dataclass(frozen=True, eq=False, kw_only=True)
class DatasetImages:
    """The pictures of a split.

    Attributes:
        paths: of the files.
        classes: of the objects in each picture.
        read: from a path to uint8 ``[H, W, 3]`` RGB, upright.
        confidential: whether they lie encrypted on the disk.
    """

    paths: list[str]
    classes: list[frozenset[int]]
    read: Callable[[str], NDArray[np.uint8]]
    confidential: bool


def read_config_images(path: Path) -> DatasetImages:
    """Read the training split that a YAML file describes.

    Args:
        path: a configuration with a ``data:`` section, as of ``yolo fit``, or the ``data.yaml`` of a YOLO data set.

    Raises:
        UsageError: yolo-data is not installed, or a wrong setting.
        YoloError: something in the data set cannot be used.
    """
    try:
        from yolo.data.config import DataConfig
        from yolo.data.config_files import data_settings, read_config
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--calibration-images {path} is a data set, which yolo-data reads: pip install 'yolo-export[data]', "
            "or give a folder of pictures"
        ) from error
    if "data" in read_config(str(path)):
        return _read(data_settings([str(path)]), "train")
    return _read(DataConfig(root=str(path), format="yolo"), "train")


def trained_on(settings: Mapping[str, Any]) -> DatasetImages | None:
    """The validation split of the data set that a checkpoint was trained on, if it is still there.

    None where yolo-data is not installed, where the data set is gone or unusable, or where its pictures are encrypted.

    Args:
        settings: the ``data:`` section that the checkpoint carries.
    """
    try:
        from yolo.data.config_files import data_settings

        config = data_settings([], base=settings)
        if not config.folder.is_dir() or config.cache_only:
            return None
        images = _read(config, "val")
        return None if images.confidential else images
    except (ModuleNotFoundError, YoloError, OSError):
        return None


def _read(config: DataConfig, split: str) -> DatasetImages:
    from yolo.data.formats import load_labels
    from yolo.data.loaders import open_loader

    config = replace(config, cache_labels=False, num_classes=None, data_fraction=1.0)
    loader = open_loader(config.image_loader, encryption_key=config.encryption_key)
    table = load_labels(config, split)
    counted = range(len(table))
    return DatasetImages(
        paths=[table.path(index) for index in counted],
        classes=[frozenset(table.targets(index).labels.tolist()) for index in counted],
        read=loader.read,
        confidential=loader.confidential,
    )
