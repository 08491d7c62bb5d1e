"""Which splits a data set has, and reading one with everything that is wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from yolo.core.errors import UsageError, YoloError
from yolo.data.config import SPLITS, DataConfig
from yolo.data.formats import load_labels
from yolo.data.formats.coco import coco_paths, load_coco
from yolo.data.formats.report import DataError, Finding, Place, Report
from yolo.data.formats.scan import image_files
from yolo.data.formats.yolo import load_yolo
from yolo.data.formats.yolo_layout import find_data_yaml, split_sources
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader
from yolo.data.wording import counted

_READERS = {"coco": load_coco, "yolo": load_yolo}


@dataclass(frozen=True)
class SplitRead:
    """A split as it was read.

    Attributes:
        table: what is left after repairs; None when the split cannot be read at all.
        findings: from reading it.
        images: every image that the split names.
        locate: the place of a box, see :class:`~yolo.data.formats.report.Report`.
    """

    table: LabelTable | None
    findings: list[Finding]
    images: list[str]
    locate: Callable[[str, int], Place] | None


def read_split(config: DataConfig, split: str) -> SplitRead:
    """Read a split, collecting what is wrong instead of stopping at it.

    A format of a plugin is read as in training: its first mistake is the only one.
    """
    report = Report(config.root, collect=True)
    config = replace(config, data_fraction=1.0)
    reader = _READERS.get(config.format)
    table: LabelTable | None = None
    try:
        if reader is None:
            table = load_labels(config, split)
            report.images = list(table.paths)
        else:
            table = reader(config, split, report=report)
            _check_count(config, table)
    except UsageError:
        raise
    except DataError as error:
        report.refuse(error)
    except YoloError as error:
        report.found.append(Finding("unusable-split", "error", str(config.folder), None, str(error)))
    if table is not None and not len(table):
        table = None
    return SplitRead(table, report.found, report.images, report.locate)


def existing_splits(config: DataConfig) -> list[str]:
    """``train`` and ``val``, and ``test`` where the data set has one."""
    return [split for split in SPLITS if split != "test" or _has(config, split)]


def unused_images(config: DataConfig, reads: dict[str, SplitRead], loader: ImageLoader) -> list[Finding]:
    """Images that lie in the folders of the splits and that no split names."""
    known = {path for read in reads.values() for path in read.images}
    findings = []
    for folder in sorted({folder for split in reads for folder in _folders(config, split)}):
        for path in image_files(folder, extra=loader.extra_suffixes):
            if path not in known:
                known.add(path)
                text = "no split names the image; training does not use it"
                findings.append(Finding("orphan-image", "warning", path, None, text))
    return findings


def _check_count(config: DataConfig, table: LabelTable) -> None:
    if config.num_classes is not None and config.num_classes != table.num_classes:
        found = counted(table.num_classes, "class", "classes")
        raise YoloError(f"data.num_classes is {config.num_classes}, but the data has {found}")


def _has(config: DataConfig, split: str) -> bool:
    if any(config.path(kind, split) for kind in ("images", "ann", "labels", "split")):
        return True
    try:
        if config.format == "coco":
            coco_paths(config, split)
        elif config.format == "yolo":
            split_sources(config, split, find_data_yaml(config, Report(config.root, collect=True)))
        else:
            return False
    except YoloError:
        return False
    return True


def _folders(config: DataConfig, split: str) -> list[Path]:
    """Folders of which a list or json names the images that are used."""
    try:
        if config.format == "coco":
            return [coco_paths(config, split)[0]]
        if config.format == "yolo":
            sources = split_sources(config, split, find_data_yaml(config, Report(config.root, collect=True)))
            return list(sources.folders[:1]) if sources.lists else []
    except YoloError:
        pass
    return []
