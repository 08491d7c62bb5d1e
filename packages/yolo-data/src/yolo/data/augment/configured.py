"""From a configuration to a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo.core.errors import UsageError
from yolo.core.plugins import resolve
from yolo.data.arguments import check_arguments
from yolo.data.augment.affine import RandomPerspective
from yolo.data.augment.base import Augmentation, BatchAugmentation, Drawn, MixAugmentation
from yolo.data.augment.bbox_mosaic import BBoxMosaic
from yolo.data.augment.cutmix import CutMix
from yolo.data.augment.flip import RandomFlip
from yolo.data.augment.hsv import RandomHSV
from yolo.data.augment.mixup import MixUp
from yolo.data.augment.mosaic import Mosaic
from yolo.data.augment.mosaic9 import Mosaic9
from yolo.data.augment.pipeline import Chance, Pipeline
from yolo.data.augment.scene import Layout
from yolo.data.config import DataConfig
from yolo.data.ranges import VIEW_LIMITS, positive, within

_KEYS = "mosaic_prob, mosaic_9_prob and bbox_mosaic"
#: Highest values, as those of the keys of the data section; the lowest is 0.
_LIMITS: dict[type, dict[str, float]] = {
    RandomHSV: {"hue": 1.0, "saturation": 1.0, "value": 1.0},
    RandomFlip: {"left_right": 1.0, "up_down": 1.0},
    RandomPerspective: VIEW_LIMITS,
}
_BLENDS = (MixUp, CutMix)


def build_pipeline(config: DataConfig) -> Pipeline:
    """Build the training pipeline of a configuration; those of plugins run first within their stage.

    Raises:
        UsageError: an entry of ``data.augmentations`` names nothing known, or its arguments do not fit.
    """
    extra = [open_augmentation(entry, position) for position, entry in enumerate(config.augmentations)]
    return Pipeline(
        size=config.size,
        affine=RandomPerspective(
            degrees=config.degrees,
            translate=config.translate,
            scale=config.scale,
            shear=config.shear,
            perspective=config.perspective,
        ),
        layouts=_layouts(config),
        mixes=[*(Chance(item, p) for item, p in extra if isinstance(item, MixAugmentation)), *_mixes(config)],
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
    if isinstance(target, type) and issubclass(target, Layout):
        raise UsageError(f"{where}: {target.__name__} is no step that follows others: it is chosen by data.{_KEYS}")
    if not (isinstance(target, type) and issubclass(target, kinds)):
        name = getattr(target, "__name__", repr(target))
        raise UsageError(f"{where}: {name} cannot be placed here, it is no subclass of an augmentation base")
    check_arguments(target, arguments, where)
    for key, high in _LIMITS.get(target, {}).items():
        within(f"{where}.{key}", arguments.get(key, 0), 0, high)
    if target in _BLENDS:
        positive(f"{where}.alpha", arguments.get("alpha", 1), 1000)
    try:
        return target(**arguments), p
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {target.__name__} does not take these options: {error}") from error


def _layouts(config: DataConfig) -> Sequence[Chance[Layout[Any]]]:
    """Tried in turn; the probability of a mosaic of four is that among the samples that did not become one of nine."""
    documents, mosaic, nine = config.bbox_mosaic, config.mosaic_prob, config.mosaic_prob * config.mosaic_9_prob
    four = (mosaic - nine) / (1 - nine) if nine < 1 else 0.0
    own = BBoxMosaic(
        view=RandomPerspective(
            degrees=documents.degrees,
            translate=documents.translate,
            scale=documents.scale,
            shear=documents.shear,
            perspective=documents.perspective,
        ),
        colour=RandomHSV(hue=documents.hsv_h, saturation=documents.hsv_s, value=documents.hsv_v),
        jitter=documents.jitter,
    )
    layouts: list[Chance[Layout[Any]]] = [Chance(own, documents.prob), Chance(Mosaic9(), nine), Chance(Mosaic(), four)]
    return [chance for chance in layouts if chance.p]


def _mixes(config: DataConfig) -> Sequence[Chance[MixAugmentation[Any]]]:
    mixes: list[Chance[MixAugmentation[Any]]] = [
        Chance(MixUp(alpha=config.mixup_alpha), config.mixup_prob),
        Chance(CutMix(), config.cutmix_prob),
    ]
    return [chance for chance in mixes if chance.p]


def _colour(config: DataConfig) -> Sequence[Chance[Augmentation[Any]]]:
    if not (config.hsv_h or config.hsv_s or config.hsv_v):
        return []
    return [Chance(RandomHSV(hue=config.hsv_h, saturation=config.hsv_s, value=config.hsv_v))]


def _flips(config: DataConfig) -> Sequence[Chance[Augmentation[Any]]]:
    if not (config.flip_lr or config.flip_ud):
        return []
    return [Chance(RandomFlip(left_right=config.flip_lr, up_down=config.flip_ud))]
