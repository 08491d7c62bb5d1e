"""Dataset formats: each reads one split into a :class:`yolo.data.labels.LabelTable`."""

from __future__ import annotations

import logging

from yolo.core.errors import UsageError, YoloError
from yolo.core.plugins import registry
from yolo.data.config import SPLITS, DataConfig
from yolo.data.fraction import take_fraction
from yolo.data.label_cache import cached_table
from yolo.data.labels import LabelTable
from yolo.data.wording import counted

_log = logging.getLogger("yolo.data")


def load_labels(config: DataConfig, split: str) -> LabelTable:
    """Read the labels of a split with the format that the configuration names.

    Of ``train`` and ``val`` it is the share ``data.data_fraction``: the same images whatever the run's seed is, so that
    runs can be compared and a cache fits them all.

    They come from the label cache where that is up to date, and with ``data.cache_only`` from the image cache.

    Args:
        config: the ``data:`` section.
        split: ``train``, ``val`` or ``test``.

    Raises:
        UsageError: unknown format or split.
        YoloError: something in the files cannot be used, or ``data.num_classes`` differs from the data.
    """
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}")
    if config.cache_only:
        from yolo.data.cache.use import cached_labels  # which reads formats itself

        table = cached_labels(config, split)
    else:
        table = cached_table(config, split, lambda: _parse(config, split))
    if config.num_classes is not None and config.num_classes != table.num_classes:
        found = counted(table.num_classes, "class", "classes")
        raise UsageError(
            f"data.num_classes is {config.num_classes}, but the data has {found} "
            f"({', '.join(table.class_names[:5])}{', …' if table.num_classes > 5 else ''}); correct or remove the key"
        )
    if split == "test" or config.data_fraction == 1 or config.cache_only:  # a cache holds the share
        return table
    chosen = take_fraction(table, config.data_fraction)
    text = "data.data_fraction %g: %d of the %d %s images are used, some of every class"
    _log.info(text, config.data_fraction, len(chosen), len(table), split)
    return chosen


def _parse(config: DataConfig, split: str) -> LabelTable:
    table = registry("dataset_formats").load(config.format)(config, split)
    if not isinstance(table, LabelTable):
        raise YoloError(f"the dataset format {config.format!r} returned {type(table).__name__}, not a LabelTable")
    return table


def require_same_classes(first: LabelTable, second: LabelTable) -> None:
    """Raise YoloError, naming the first difference, when two splits do not have the same classes in the same order."""
    if first.class_names == second.class_names:
        return
    if len(first.class_names) != len(second.class_names):
        raise YoloError(f"the splits have {len(first.class_names)} and {len(second.class_names)} classes")
    pairs = zip(first.class_names, second.class_names, strict=True)
    index, (one, other) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    raise YoloError(f"class {index} is {one!r} in one split and {other!r} in the other")
