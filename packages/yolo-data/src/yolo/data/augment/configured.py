"""From a configuration to a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo.core.errors import UsageError
from yolo.core.plugins import resolve
from yolo.data.augment.affine import RandomAffine
from yolo.data.augment.base import Augmentation, BatchAugmentation, Drawn, MixAugmentation
from yolo.data.augment.flip import RandomFlip
from yolo.data.augment.hsv import RandomHSV
from yolo.data.augment.mosaic import Mosaic
from yolo.data.augment.pipeline import Chance, Pipeline
from yolo.data.config import DataConfig


def build_pipeline(config: DataConfig) -> Pipeline:
    """Build the training pipeline of a configuration; those of plugins run first within their stage.

    Raises:
        UsageError: an entry of ``data.augmentations`` names nothing known, or its arguments do not fit.
    """
    extra = [open_augmentation(entry, position) for position, entry in enumerate(config.augmentations)]
    return Pipeline(
        size=config.size,
        affine=RandomAffine(
            degrees=config.degrees,
            translate=config.translate,
            scale=config.scale,
            shear=config.shear,
            perspective=config.perspective,
        ),
        layouts=[Chance(Mosaic(), config.mosaic_prob)],
        mixes=[Chance(item, p) for item, p in extra if isinstance(item, MixAugmentation)],
        samples=[
            *(Chance(item, p) for item, p in extra if isinstance(item, Augmentation)),
            *_colour(config),
            *_flips(config),
        ],
        batches=[Chance(item, p) for item, p in extra if isinstance(item, BatchAugmentation)],
    )


def open_augmentation(entry: Mapping[str, Any], position: int = 0) -> tuple[Drawn[Any], float]:
    """Make the augmentation that one entry of ``data.augmentations`` names.

    Args:
        entry: ``{use: name or class path, p: probability, ...arguments}``; ``p`` is 1 when it is left out.
        position: of the entry in its list, for messages.

    Returns:
        The augmentation and its probability.

    Raises:
        UsageError: an unknown name, something that is no augmentation, or arguments that do not fit.
    """
    where = f"data.augmentations[{position}]"
    target, arguments = resolve("augmentations", entry)
    p = float(arguments.pop("p", 1.0))
    kinds = (Augmentation, MixAugmentation, BatchAugmentation)
    if not (isinstance(target, type) and issubclass(target, kinds)):
        name = getattr(target, "__name__", repr(target))
        raise UsageError(f"{where}: {name} cannot be placed here, it is no subclass of an augmentation base")
    try:
        return target(**arguments), p
    except TypeError as error:
        raise UsageError(f"{where}: {target.__name__} does not take these options: {error}") from error


def _colour(config: DataConfig) -> Sequence[Chance[Augmentation[Any]]]:
    if not (config.hsv_h or config.hsv_s or config.hsv_v):
        return []
    return [Chance(RandomHSV(hue=config.hsv_h, saturation=config.hsv_s, value=config.hsv_v))]


def _flips(config: DataConfig) -> Sequence[Chance[Augmentation[Any]]]:
    if not (config.flip_lr or config.flip_ud):
        return []
    return [Chance(RandomFlip(left_right=config.flip_lr, up_down=config.flip_ud))]
