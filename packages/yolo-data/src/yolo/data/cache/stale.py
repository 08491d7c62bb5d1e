"""Whether a cache still fits the configuration and the data set, and if not, why."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.data.cache.index import CacheIndex
from yolo.data.cache.make import in_threads, usable_cores
from yolo.data.cache.pictures import SourceFacts
from yolo.data.cache.plan import stored_names
from yolo.data.cache.settings import VERSION, CacheSettings
from yolo.data.cache.store import Head
from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings

_THREADS = 8  # waiting for the file system more than working
_CHUNK = 512


@dataclass(frozen=True)
class Verdict:
    """What is to be done with a cache.

    Attributes:
        reason: why it has to be built anew, None when its pictures are good.
        labels_changed: its labels are not those of the data set.
        touched: records whose image has other times and the same contents: what the image is now.
        splits: that the cache holds.
        records: for each split, int32, the record of each image of its table.
    """

    reason: str | None
    labels_changed: bool = False
    touched: Mapping[int, SourceFacts] = field(default_factory=dict)
    records: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    splits: frozenset[str] = frozenset()

    @property
    def needs_refresh(self) -> bool:
        """Whether the pictures are good, and the index should be replaced."""
        return self.reason is None and bool(self.labels_changed or self.touched)


def reason_to_rebuild(
    head: Head, index: CacheIndex | None, settings: CacheSettings, tables: Mapping[str, LabelTable], root: Path
) -> str | None:
    """Return why a cache cannot be used as it is, None when it can; see :func:`examine`."""
    return examine(head, index, settings, tables, root).reason


def examine(
    head: Head, index: CacheIndex | None, settings: CacheSettings, tables: Mapping[str, LabelTable], root: Path
) -> Verdict:
    """Compare a cache with the configuration and the data set.

    Only the splits that are asked for are looked at. Labels, the JPEG quality and everything else that does not change
    which pictures are stored and how are no reason to build it anew; an image is when its contents changed.

    Args:
        head: of the cache.
        index: of the cache; None where it has not been read: then only version and encryption are compared.
        settings: of the configuration.
        tables: labels of the splits that are asked for, with the data set's own paths.
        root: the data set's folder.

    Raises:
        YoloError: an image cannot be read.
    """
    if head.version != VERSION:
        return Verdict(f"version changed ({head.version} → {VERSION})")
    if index is not None and index.settings.picture_format != settings.picture_format:
        return Verdict(f"format changed ({index.settings.picture_format} → {settings.picture_format})")
    if head.encrypted != settings.encrypted:
        return Verdict(f"encryption changed ({_encryption(head.encrypted)} → {_encryption(settings.encrypted)})")
    if index is None:
        return Verdict(None)
    if (index.settings.size, index.settings.fraction) != (settings.size, settings.fraction):
        return Verdict("settings changed (size/fraction)")
    if index.settings.loader != settings.loader:
        return Verdict("settings changed (image loader)")
    before = sum(len(index.splits[split].table) for split in tables if split in index.splits)
    now = sum(map(len, tables.values()))
    if before != now:
        return Verdict(f"image count changed ({before:,} → {now:,})")
    names = {split: stored_names(list(table.paths), root) for split, table in tables.items()}
    records = _records(index, names)
    touched = None if records is None else _touched(index, records, tables)
    if records is None or touched is None:
        return Verdict("image files changed")
    return Verdict(None, labels_changed(index, tables, root), touched, records)


def labels_changed(index: CacheIndex, tables: Mapping[str, LabelTable], root: Path) -> bool:
    """Whether labels in a cache are not those of the data set (its pictures may be good all the same)."""
    for split, table in tables.items():
        cached = index.splits.get(split)
        if cached is None or not _same_labels(cached.table, table):
            return True
        if list(cached.table.paths) != stored_names(list(table.paths), root):
            return True
    return False


def _encryption(encrypted: bool) -> str:
    return "encrypted" if encrypted else "unencrypted"


def _records(index: CacheIndex, names: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.int32]] | None:
    """The record of each image, None when one has none."""
    records: dict[str, NDArray[np.int32]] = {}
    numbers: dict[str, int] = {}
    for split, paths in names.items():
        cached = index.splits.get(split)
        if cached is not None and list(cached.table.paths) == paths:
            records[split] = cached.records
            continue
        numbers = numbers or {name: number for number, name in enumerate(index.paths)}
        found = np.fromiter((numbers.get(path, -1) for path in paths), np.int32, len(paths))
        if (found < 0).any():
            return None
        records[split] = found
    return records


def _touched(
    index: CacheIndex, records: Mapping[str, NDArray[np.int32]], tables: Mapping[str, LabelTable]
) -> dict[int, SourceFacts] | None:
    """The records whose image was touched only, None when the contents of one changed."""
    sources = {
        record: path
        for split, table in tables.items()
        for record, path in zip(records[split].tolist(), table.paths, strict=True)
    }
    numbers = np.fromiter(sources, np.int64, len(sources))
    now = look_at_files(list(sources.values()))
    if (now[:, 0] != index.source_sizes[numbers]).any():
        return None
    same = (now[:, 1] == index.mtimes[numbers]) & (now[:, 2] == index.ctimes[numbers])
    doubtful = numbers[~same].tolist()
    touched: dict[int, SourceFacts] = {}
    hashed = in_threads(
        lambda number: (number, SourceFacts.of(sources[number])), doubtful, workers=usable_cores(), ahead=64
    )
    for number, facts in hashed:
        if facts.digest != index.digests[number].tobytes():
            hashed.close()
            return None
        # A file that is too new to be trusted stays doubtful: there is nothing new to remember.
        if (facts.mtime_ns, facts.ctime_ns) != (index.mtimes[number], index.ctimes[number]):
            touched[number] = facts
    return touched


def look_at_files(paths: Sequence[str]) -> NDArray[np.int64]:
    """Return int64 ``[n, 3]``: size in bytes, mtime and ctime in nanoseconds of each file; 0 where there is none."""

    def look(chunk: Sequence[str]) -> list[tuple[int, int, int]]:
        return [_look(path) for path in chunk]

    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = [row for part in pool.map(look, chunks) for row in part]
    return np.array(rows, np.int64).reshape(-1, 3)


def _look(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116  # hot
    except (OSError, ValueError):
        return 0, 0, 0
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns) if stat.S_ISREG(found.st_mode) else (0, 0, 0)


def _same_labels(one: LabelTable, other: LabelTable) -> bool:
    """Whether two tables are equal but for their paths."""
    for item in fields(LabelTable):
        first, second = getattr(one, item.name), getattr(other, item.name)
        if item.name == "paths":
            continue
        if isinstance(first, PackedStrings) and isinstance(second, PackedStrings):
            if not (np.array_equal(first.data, second.data) and np.array_equal(first.offsets, second.offsets)):
                return False
        elif isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            if not np.array_equal(first, second):
                return False
        elif first != second:
            return False
    return True
