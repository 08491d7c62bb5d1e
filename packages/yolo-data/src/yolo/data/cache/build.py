"""Filling a cache: by threads, with one writer, and so that it may be stopped at any moment.

A cache is built beside its final place, see :mod:`yolo.data.cache.promote`. Whatever stops the work, a later run with
the same plan goes on: a record that is there, whole, and whose image has not changed since, is not made again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache.draft import Draft, open_draft
from yolo.data.cache.errors import CacheError
from yolo.data.cache.index import CacheIndex, SplitIndex
from yolo.data.cache.make import Made, Records, in_threads, look_at_record, make_record, usable_cores
from yolo.data.cache.plan import Plan, relative_table
from yolo.data.cache.promote import building, finish, heal, partial_folder, put_in_place, real
from yolo.data.cache.readers import database_file
from yolo.data.cache.refresh import refresh_labels
from yolo.data.cache.resources import check_resources, estimate_bytes
from yolo.data.cache.seal import record_label
from yolo.data.cache.settings import CacheSettings, check_encryption
from yolo.data.encryption.keys import Key
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader
from yolo.data.packed import PackedStrings

__all__ = ["Track", "build_cache", "check_encryption", "heal", "refresh_labels"]

_log = logging.getLogger("yolo.data")

#: Wraps what is gone through, to show how far it is: (items, text, total).
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]


def build_cache(
    folder: Path,
    settings: CacheSettings,
    tables: Mapping[str, LabelTable],
    *,
    root: Path,
    loader: ImageLoader,
    key: Key | None = None,
    workers: int | None = None,
    sync: bool = False,
    fresh: bool = False,
    memory_limit_gb: float | None = None,
    track: Track | None = None,
) -> Path:
    """Build a cache of all splits, or go on with one that was stopped.

    It replaces what is in ``folder`` when it is complete, not before: open it again afterwards.

    Args:
        folder: of the cache, see :func:`yolo.data.cache.settings.cache_folder`.
        settings: what it is made with.
        tables: the labels of each split; each image is stored once.
        root: the data set's folder; paths are stored relative to it.
        loader: reads the images.
        key: of the encryption, where ``settings`` ask for one.
        workers: threads that make records; one for each core when not set.
        sync: force every transaction to the disk.
        fresh: do not go on with an earlier run's unfinished cache.
        memory_limit_gb: refuse to begin when the cache will not fit into as much memory, or into what the machine has.
        track: shows progress.

    Returns:
        The cache's folder, where links are followed.

    Raises:
        UsageError: a confidential loader and no encryption, or no key; there is too little memory.
        CacheError: another process is building it; the disk is full; the folder cannot be written.
        YoloError: an image cannot be read (the message names it), or the disk is too small.
    """
    if loader.confidential and not settings.encrypted:
        raise UsageError(
            f"{type(loader).__name__} reads encrypted images, and this cache would hold them in clear: "
            "set data.cache_encrypt to true"
        )
    if settings.encrypted and key is None:
        raise UsageError("data.cache_encrypt needs a key: set YOLO_ENCRYPTION_KEY to 64 hexadecimal characters")
    folder = real(folder)
    plan = Plan.of(settings, tables, root)
    if not len(plan):
        raise YoloError(f"{folder}: there is no image to put into the cache")
    show = track or (lambda items, text, total: items)
    threads = max(1, workers or usable_cores())
    with building(folder):
        finish(folder)
        unfinished = partial_folder(folder)
        needed, present = estimate_bytes(plan.sources, settings, loader), _size(database_file(unfinished))
        mode = "disk" if memory_limit_gb is None else "ram"
        check_resources(folder, needed, mode=mode, max_memory_gb=memory_limit_gb or 0, present=present)
        draft = open_draft(unfinished, plan, key=key if settings.encrypted else None, sync=sync, fresh=fresh)
        try:
            records = _fill(draft, plan, loader, workers=threads, track=show)
            draft.complete(_index(plan, tables, root, records), sync=sync)
        finally:
            draft.writer.close()
        put_in_place(unfinished, folder)
    return folder


def _fill(draft: Draft, plan: Plan, loader: ImageLoader, *, workers: int, track: Track) -> Records:
    """Make every record that is not there; return what they all are."""
    records = Records(len(plan), draft.seal.check_size)
    try:
        if draft.resumed:
            _look(draft, plan, records, workers=workers, track=track)
        missing = np.flatnonzero(~records.there).tolist()
        work = partial(make_record, plan=plan, loader=loader, seal=draft.seal)
        with closing(in_threads(work, missing, workers=workers)) as results:
            for made in track(results, "Caching images", len(missing)):
                draft.put((record_label(made.number), made.stored))
                records.add(made)
    except BaseException as error:
        with suppress(CacheError, OSError):
            draft.pause()
        if isinstance(error, YoloError) and not isinstance(error, CacheError | UsageError):
            raise YoloError(
                f"{error} ({records.count} of {len(plan)} images are in the cache so far: correct or remove this one, "
                "run it again, and it goes on from there)"
            ) from error
        raise
    return records


def _look(draft: Draft, plan: Plan, records: Records, *, workers: int, track: Track) -> None:
    """Find the records of an earlier run that are still good."""

    def look(item: tuple[bytes, bytes]) -> Made | None:
        return look_at_record(int.from_bytes(item[0][1:], "big"), item[1], plan, draft.seal)

    with closing(in_threads(look, draft.writer.items(b"r"), workers=workers)) as results:
        for made in track(results, "Checking what an earlier run cached", len(plan)):
            if made is not None:
                records.add(made)
    _log.info("Going on with the cache %s: %d of %d images are there", draft.folder, records.count, len(plan))


def _index(plan: Plan, tables: Mapping[str, LabelTable], root: Path, records: Records) -> CacheIndex:
    return CacheIndex(
        settings=plan.settings,
        root=os.path.abspath(root),  # noqa: PTH100  # links stay, as in the tables
        paths=PackedStrings.pack(plan.names),
        checks=records.checks,
        sizes_stored=records.stored,
        source_sizes=records.facts[:, 0].copy(),
        mtimes=records.facts[:, 1].copy(),
        ctimes=records.facts[:, 2].copy(),
        digests=records.digests,
        splits={split: SplitIndex(relative_table(table, root), plan.records[split]) for split, table in tables.items()},
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
