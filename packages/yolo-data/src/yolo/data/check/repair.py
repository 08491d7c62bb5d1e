"""A repaired copy of a data set: what training would leave out or change is left out or changed in the files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from yolo.core.errors import UsageError, YoloError
from yolo.data.check.copies import Copy
from yolo.data.check.inspect import Inspection
from yolo.data.check.pictures import Track
from yolo.data.check.repair_coco import repaired_coco
from yolo.data.check.repair_yolo import repaired_yolo
from yolo.data.config import SPLITS, DataConfig
from yolo.data.formats.report import Finding, show
from yolo.data.wording import counted

_WRITERS = {"coco": repaired_coco, "yolo": repaired_yolo}
#: Findings of the data set as a whole: leaving something out does not cure them.
_BEYOND_REPAIR = ("unusable-split", "other-convention", "different-classes", "class-names", "bad-json", "bad-yaml")
_LOST_BOX = ("malformed-line", "class-range", "coordinate-range", "negative-size", "bad-entry", "unknown-category")


@dataclass(frozen=True)
class Repaired:
    """What a repaired copy holds.

    Attributes:
        images: copied.
        left_out: images that were not: unreadable ones, and copies of others.
        boxes: in the copy.
    """

    images: int
    left_out: int
    boxes: int


def write_repaired(inspection: Inspection, folder: Path, *, track: Track | None = None) -> Repaired:
    """Write a repaired copy of a data set that was inspected.

    Left out are images that cannot be read, lines and annotations that cannot be used, boxes without area, repeated
    boxes, identical pictures of a split but for one, and training pictures that are also measured on. Clipped and
    corrected are boxes over the edge, sizes, areas and class names. Everything else is kept as it is written: polygons,
    masks, further keys of a json. The data set itself is only read.

    Args:
        inspection: of the data set, with every picture read.
        folder: to make; it may exist when it is empty. It appears whole, under its name, or not at all.
        track: shows progress.

    Raises:
        UsageError: the folder is not empty, or lies in the data set; the format is one of a plugin.
        YoloError: the data set is not damaged here and there but wrong as a whole; a file cannot be copied.
    """
    folder = folder.expanduser().absolute()
    _require_free(folder, inspection)
    writer = _WRITERS.get(inspection.config.format)
    if writer is None:
        raise UsageError(f"the format {inspection.config.format!r} cannot be repaired: only coco and yolo can")
    _refuse_hopeless(inspection)
    with _draft(folder) as draft:
        boxes, images = 0, 0
        for split, table in inspection.tables.items():
            copies = writer(inspection, split, draft)
            boxes += sum(copy.boxes for copy in copies)
            images += len(copies)
            text = f"Copying {split} images"
            for copy in copies if track is None else track(copies, text, len(copies)):
                _copy(copy)
            if 2 * len(copies) < len(inspection.reads[split].images):
                whole = counted(len(inspection.reads[split].images), f"{split} image")
                raise YoloError(
                    f"only {len(copies)} of the {whole} would be left "
                    f"({len(table)} of them can be read): nothing was written; remove the copies by hand, or split anew"
                )
    named = sum(len(read.images) for read in inspection.reads.values())
    return Repaired(images, named - images, boxes)


def copy_settings(config: DataConfig, folder: Path) -> DataConfig:
    """Return the settings with which the copy in ``folder`` is read: it has the usual layout."""
    own = {field.name: None for field in fields(DataConfig) if field.name.partition("_")[0] in SPLITS}
    settings: dict[str, Any] = {**own, "root": str(folder), "data_fraction": 1.0}
    return replace(config, **settings)


def _refuse_hopeless(inspection: Inspection) -> None:
    findings = inspection.report.findings
    for finding in findings:
        if finding.severity == "error" and finding.kind in _BEYOND_REPAIR:
            raise _hopeless(finding)
    unread = [split for split, read in inspection.reads.items() if split not in inspection.tables or read.table is None]
    if unread:
        about = next((f for f in findings if f.severity == "error"), None)
        if about is not None:
            raise _hopeless(about)
        raise YoloError(f"--fix: the split {unread[0]} cannot be read")
    lost = [finding for finding in findings if finding.severity == "error" and finding.kind in _LOST_BOX]
    boxes = sum(facts.boxes for facts in inspection.report.splits.values())
    if len(lost) > boxes:
        number = counted(len(lost), "box", "boxes")
        raise YoloError(
            f"--fix: {number} would be lost and {boxes} left: this is not damage but another format, "
            f"first {_told(lost[0])}"
        )
    from_one = [finding for finding in lost if "count from 1" in finding.message]
    if from_one and all(
        table.num_classes > 1 and not (table.labels == 0).any() for table in inspection.tables.values()
    ):
        raise YoloError(f"--fix: the classes are counted from 1 throughout: {_told(from_one[0])}")


def _hopeless(finding: Finding) -> YoloError:
    return YoloError(f"--fix cannot repair this: {_told(finding)}")


def _told(finding: Finding) -> str:
    line = "" if finding.line is None else f" line {finding.line}"
    return f"{show(finding.file)}{line}: {finding.message}"


def _require_free(folder: Path, inspection: Inspection) -> None:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise UsageError(f"--fix {show(folder)}: the folder is not empty; give a new one")
    elif os.path.lexists(folder):
        raise UsageError(f"--fix {show(folder)}: this is not a folder")
    root = inspection.config.folder.resolve()
    if folder.resolve() == root or root in folder.resolve().parents:
        raise UsageError(f"--fix {show(folder)}: this lies in the data set itself; give a folder elsewhere")


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which gets its name when everything is written."""
    draft = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}-", dir=folder.parent))
        draft.chmod(0o755)
        yield draft
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except OSError as error:
        raise YoloError(f"--fix {show(folder)}: cannot be written: {error.strerror or error}") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _copy(copy: Copy) -> None:
    copy.target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(copy.source, copy.target)
