"""The same cache under another key: every value is opened and closed anew, under a new id of the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yolo.core.errors import UsageError
from yolo.data.cache.exclusive import exclusively
from yolo.data.cache.index import write_index
from yolo.data.cache.promote import finish, put_in_place, real, remove
from yolo.data.cache.readers import close_reader, database_file
from yolo.data.cache.resources import check_disk
from yolo.data.cache.seal import record_label
from yolo.data.cache.store import HEAD, CacheStore, Head
from yolo.data.cache.writer import Writer
from yolo.data.encryption.keys import Key

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]

_AT_ONCE = 64
_BYTES_AT_ONCE = 16 << 20


def rekey_cache(folder: Path, old: Key, new: Key, *, track: Track | None = None) -> None:
    """Encrypt a cache anew with another key.

    The new cache is written beside the old one, ``<folder>.rekey``, and takes its place when it is complete: a kill
    leaves the old one, and the next call starts over.

    Args:
        folder: of the cache.
        old: its key.
        new: the key that it shall have.
        track: shows progress: takes what is gone through, a text and the total.

    Raises:
        UsageError: the cache is not encrypted, or the keys are the same.
        CacheError: there is no complete cache, ``old`` is not its key, another process is at work on it, or it is
            damaged. It was not changed.
        YoloError: the disk is too full, or cannot be written.
    """
    if old == new:
        raise UsageError("the new key is the old one: set YOLO_NEW_ENCRYPTION_KEY to another")
    folder = real(folder)
    with exclusively(folder):
        finish(folder)
        store = CacheStore.open(folder, key=old)
        if not store.head.encrypted:
            raise UsageError(
                f"the cache in {str(folder)!r} is not encrypted, so that it has no key to change: make it again with "
                "`yolo cache-create --encrypt`"
            )
        draft = folder.with_name(f"{folder.name}.rekey")
        remove(draft)
        check_disk(folder, database_file(folder).stat().st_size)
        try:
            _copy(store, draft, new, track)
            close_reader(folder)
            put_in_place(draft, folder)
        finally:
            remove(draft)


def _copy(store: CacheStore, draft: Path, key: Key, track: Track | None) -> None:
    index, count = store.index, len(store.index)
    head = Head.new(key=key, records=count)
    seal = head.seal(key, draft)
    checks = np.empty((count, seal.check_size), np.uint8)
    numbers: Iterable[int] = range(count)
    with Writer(draft) as writer:
        waiting: list[tuple[bytes, bytes]] = []
        size = 0
        for number in numbers if track is None else track(numbers, "Encrypting", count):
            label = record_label(number)
            with store.content(number) as content:
                sealed = seal.close(content, label)
            checks[number] = np.frombuffer(seal.check(sealed), np.uint8)
            waiting.append((label, sealed))
            size += len(sealed)
            if len(waiting) == _AT_ONCE or size > _BYTES_AT_ONCE:
                writer.put_many(waiting)
                waiting, size = [], 0
        writer.put_many(waiting)
        write_index(writer, seal, replace(index, checks=checks))
        writer.flush(required=False)
        writer.put_many([(HEAD, replace(head, complete=True).as_json())])
        writer.flush(required=False)
