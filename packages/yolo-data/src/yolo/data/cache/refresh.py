"""New labels for a cache whose pictures are still good."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from yolo.core.errors import YoloError
from yolo.data.cache.errors import CacheError
from yolo.data.cache.index import CacheIndex, SplitIndex, write_index
from yolo.data.cache.plan import relative_table
from yolo.data.cache.promote import building, cannot_write, copy_folder, finish, put_in_place, real, remove
from yolo.data.cache.readers import database_file
from yolo.data.cache.resources import check_disk
from yolo.data.cache.stale import Verdict, examine
from yolo.data.cache.store import CacheStore, read_head
from yolo.data.cache.writer import Writer
from yolo.data.encryption.keys import Key
from yolo.data.labels import LabelTable

_log = logging.getLogger("yolo.data")


def refresh_labels(
    folder: Path,
    tables: Mapping[str, LabelTable],
    *,
    root: Path,
    key: Key | None = None,
    sync: bool = False,
    verdict: Verdict | None = None,
) -> bool:
    """Put the labels of the data set as it is now into a cache, and what is known of files that were only touched.

    The cache is replaced as a whole by a copy with another index, because other processes may be reading it; open it
    again afterwards. Splits that are not in ``tables`` stay as they are.

    Args:
        folder: of the cache.
        tables: labels of some splits.
        root: the data set's folder.
        key: of the cache's encryption.
        sync: force the copy to the disk.
        verdict: what :func:`yolo.data.cache.stale.examine` said; it is called when this is not given.

    Returns:
        Whether there was anything to do.

    Raises:
        ValueError: the pictures are not good any more.
        YoloError: the labels changed and the cache cannot be written. A cache that cannot be written is no error when
            files were only touched: their contents are then compared again the next time.
    """
    folder = real(folder)
    store = CacheStore.open(folder, key=key)
    index = store.index
    if verdict is None:
        verdict = examine(store.head, index, index.settings, tables, root)
    if verdict.reason is not None:
        raise ValueError(f"the cache has to be built anew: {verdict.reason}")
    if not verdict.needs_refresh:
        return False
    try:
        _replace(store, _updated(index, tables, root, verdict), sync=sync)
    except YoloError as error:
        if verdict.labels_changed:
            raise
        _log.debug("The times of %d touched files are not remembered: %s", len(verdict.touched), error)
        return False
    return True


def _updated(index: CacheIndex, tables: Mapping[str, LabelTable], root: Path, verdict: Verdict) -> CacheIndex:
    mtimes, ctimes = np.array(index.mtimes), np.array(index.ctimes)
    for number, facts in verdict.touched.items():
        mtimes[number], ctimes[number] = facts.mtime_ns, facts.ctime_ns
    new = {split: SplitIndex(relative_table(table, root), verdict.records[split]) for split, table in tables.items()}
    return replace(index, mtimes=mtimes, ctimes=ctimes, splits={**index.splits, **new})


def _replace(store: CacheStore, index: CacheIndex, *, sync: bool) -> None:
    folder, copy = store.folder, copy_folder(store.folder)
    with building(folder):
        finish(folder)
        head = read_head(folder)
        if head is None or head.cache_id != store.head.cache_id:
            raise CacheError(f"the cache {str(folder)!r} was replaced by another process: run this again")
        check_disk(folder, store.file_size())
        try:
            database_file(copy).parent.mkdir(parents=True)
            shutil.copyfile(database_file(folder), database_file(copy))
            with Writer(copy, sync=sync) as writer:
                write_index(writer, store.seal, index)
                writer.flush(required=sync)
            put_in_place(copy, folder)
        except OSError as error:
            raise cannot_write(folder.parent, error) from error
        finally:
            remove(copy)
