"""The check of a whole data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from yolo.core.errors import UsageError
from yolo.data.check.boxes import odd_boxes, odd_sizes
from yolo.data.check.compare import compare_splits
from yolo.data.check.duplicates import Pictures, find_duplicates
from yolo.data.check.json_lines import with_lines
from yolo.data.check.pictures import Track, look_at_pictures
from yolo.data.check.result import DatasetReport, SplitFacts, facts_of
from yolo.data.check.splits import SplitRead, existing_splits, read_split, unused_images
from yolo.data.config import SPLITS, DataConfig
from yolo.data.formats.report import Finding, show
from yolo.data.labels import LabelTable
from yolo.data.loaders import open_loader

_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Inspection:
    """A check with everything that a repair needs.

    Attributes:
        config: of the data set.
        report: what is told.
        tables: of every split that can be read, without pictures that cannot.
        reads: how each split was read.
        leave_out: by split, paths of further pictures that a repaired copy leaves out: copies.
    """

    config: DataConfig
    report: DatasetReport
    tables: dict[str, LabelTable]
    reads: dict[str, SplitRead]
    leave_out: dict[str, set[str]] = field(default_factory=dict)


def check_dataset(
    config: DataConfig, splits: Sequence[str] | None = None, *, images: bool = True, track: Track | None = None
) -> DatasetReport:
    """Find what is wrong in a data set.

    Args:
        config: the ``data:`` section.
        splits: to check; None for train, val and, where there is one, test.
        images: decode every picture, to find damaged ones and copies. Otherwise only headers are read, as before every
            training.
        track: shows progress: takes what is gone through, a text and the total.

    Raises:
        UsageError: the configuration itself is wrong.
    """
    return inspect_dataset(config, splits, images=images, track=track).report


def inspect_dataset(
    config: DataConfig, splits: Sequence[str] | None = None, *, images: bool = True, track: Track | None = None
) -> Inspection:
    """As :func:`check_dataset`, and keep what a repair needs."""
    for split in splits or ():
        if split not in SPLITS:
            raise UsageError(f"there is no split {split!r}: choose from {', '.join(SPLITS)}")
    if config.cache_only:
        raise UsageError("a check looks at files: leave out data.cache_only, or check a cache with `yolo cache-verify`")
    loader = open_loader(config.image_loader, encryption_key=config.encryption_key)
    everything = existing_splits(config)
    chosen = list(dict.fromkeys(splits)) if splits else everything
    track = track or _silent
    reads = {split: read_split(config, split) for split in chosen}
    tables = {split: read.table for split, read in reads.items() if read.table is not None}
    source = show(config.folder)
    findings = [finding for read in reads.values() for finding in read.findings]
    findings += compare_splits(tables, source)
    if set(chosen) >= set(everything):
        findings += unused_images(config, reads, loader)
    leave_out: dict[str, set[str]] = {}
    if images:
        pictures = Pictures()
        for split, table in tables.items():
            found, broken = look_at_pictures(table, loader, split, pictures, track=track)
            findings += found
            tables[split] = _without(table, broken)
        duplicates = find_duplicates(pictures)
        findings += duplicates.findings
        for split, path in duplicates.spare:
            leave_out.setdefault(split, set()).add(path)
    for split, table in tables.items():
        findings += odd_sizes(table)
        findings += _odd_boxes(table, reads[split])
    facts: dict[str, SplitFacts] = {split: facts_of(table) for split, table in tables.items()}
    ordered = sorted(dict.fromkeys(with_lines(findings)), key=_rank)
    report = DatasetReport(source, config.format, facts, tuple(ordered), images)
    return Inspection(replace(config, data_fraction=1.0), report, tables, reads, leave_out)


def _odd_boxes(table: LabelTable, read: SplitRead) -> list[Finding]:
    return [] if read.locate is None else odd_boxes(table, read.locate)


def _without(table: LabelTable, paths: set[str]) -> LabelTable:
    if not paths:
        return table
    keep = [index for index, path in enumerate(table.paths) if path not in paths]
    return table.select(np.array(keep, np.intp))


def _rank(finding: Finding) -> tuple[int, str, str, int]:
    return _ORDER[finding.severity], finding.kind, finding.file, finding.line or 0


def _silent(items: Iterable[Any], text: str, total: int) -> Iterable[Any]:
    return items
