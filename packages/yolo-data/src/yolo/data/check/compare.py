"""What only shows when the splits are seen together. Quick: it runs before every training."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Mapping

import numpy as np

from yolo.core.errors import YoloError
from yolo.data.check.duplicates import not_independent
from yolo.data.formats import require_same_classes
from yolo.data.formats.report import Finding, show
from yolo.data.labels import LabelTable

_log = logging.getLogger("yolo.data")


def compare_splits(tables: Mapping[str, LabelTable], source: str) -> list[Finding]:
    """Compare classes and files of the splits.

    Args:
        tables: labels by split, ``train`` first.
        source: of the data set, for findings that no file can be blamed for.
    """
    findings: list[Finding] = []
    for (split, table), (other, more) in itertools.combinations(tables.items(), 2):
        try:
            require_same_classes(table, more)
        except YoloError as error:
            text = f"{split} and {other}: {error}"
            findings.append(Finding("different-classes", "error", source, None, text))
        for path in sorted(set(table.paths).intersection(more.paths)):
            text = f"the file is in {split} and in {other}{not_independent(split, other)}"
            findings.append(Finding("image-in-two-splits", "warning", path, None, text))
    train = tables.get("train")
    if train is not None and train.crowd.all():
        findings.append(Finding("nothing-to-learn", "error", source, None, "not one train image has a box"))
    elif train is not None and not any(finding.kind == "different-classes" for finding in findings):
        findings += _class_balance(train, tables, source)
    return findings


def warn_about_splits(tables: Mapping[str, LabelTable], source: str) -> None:
    """Log what :func:`compare_splits` finds, one line a kind.

    Raises:
        YoloError: the splits have different classes, or the training images no box at all.
    """
    findings = compare_splits(tables, source)
    counts = Counter(finding.kind for finding in findings if finding.severity != "info")
    for finding in findings:
        if finding.severity == "error":
            raise YoloError(f"{show(finding.file)}: {finding.message}")
        if counts.get(finding.kind):
            place = "" if finding.file == source else f"{show(finding.file)}: "
            more = counts.pop(finding.kind) - 1
            _log.warning("%s%s%s", place, finding.message, f" ({more} more like this)" if more else "")


def _class_balance(train: LabelTable, tables: Mapping[str, LabelTable], source: str) -> list[Finding]:
    number = train.num_classes
    counts = {
        split: np.bincount(table.labels[~table.crowd], minlength=number).tolist() for split, table in tables.items()
    }
    findings = []
    for index, name in enumerate(train.class_names):
        if counts["train"][index]:
            continue
        unseen = [f"{counts[split][index]} in {split}" for split in counts if counts[split][index]]
        if unseen:
            text = f"class {name!r} has no box in train, but {' and '.join(unseen)}: it cannot be learnt"
            findings.append(Finding("class-not-in-train", "info", source, None, text))
        else:
            findings.append(Finding("empty-class", "info", source, None, f"class {name!r} has no box in any split"))
    return findings
