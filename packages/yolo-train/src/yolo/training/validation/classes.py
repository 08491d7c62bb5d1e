"""Do the classes of a model and of the data belong together?"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from yolo.core.errors import UsageError
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.training.validation.subject import Subject

_log = logging.getLogger(__name__)

_NAME_FILES = ("data.yaml", "data.yml", "classes.json")


def load_truth(config: DataConfig, split: str, subject: Subject, *, num_classes: int | None = None) -> LabelTable:
    """Read the labels of a split, whose classes must be those of the model.

    A YOLO folder that names no classes gets the model's.

    Args:
        config: the ``data:`` section.
        split: ``train``, ``val`` or ``test``.
        subject: the model.
        num_classes: what the user expects, ``--num-classes``.

    Raises:
        UsageError: another number of classes, or the same classes in another order.
        YoloError: what the format says of the files.
    """
    count = len(subject.class_names)
    if num_classes not in (None, count):
        raise UsageError(f"--num-classes {num_classes}: {subject.path} has {count} ({_listed(subject.class_names)})")
    nameless = config.format == "yolo" and config.num_classes is None and not _has_names(config)
    table = load_labels(replace(config, num_classes=count) if nameless else config, split)
    if nameless:
        return replace(table, class_names=subject.class_names)
    if table.num_classes != count:
        raise UsageError(
            f"{subject.path} knows {count} classes, but the data has {table.num_classes} "
            f"({_listed(table.class_names)}): measure it on data with the classes it was trained on"
        )
    if subject.names_known and table.class_names != subject.class_names:
        _compare_names(subject, table)
    return table


def _compare_names(subject: Subject, table: LabelTable) -> None:
    pairs = zip(subject.class_names, table.class_names, strict=True)
    index, (own, other) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    text = f"class {index} is {own!r} in {subject.path} and {other!r} in the data"
    if set(subject.class_names) == set(table.class_names):
        raise UsageError(f"{text}: the same classes in another order; number the labels as the model does")
    _log.warning("%s: it is measured as one class", text)


def _has_names(config: DataConfig) -> bool:
    root = Path(config.root).expanduser()
    return root.suffix.lower() in (".yaml", ".yml") or any((root / name).is_file() for name in _NAME_FILES)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
