"""A cache while it is being filled."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from yolo.data.cache.errors import CacheError, CacheFullError, CacheReadOnlyError, DamagedRecordError
from yolo.data.cache.index import CacheIndex, write_index
from yolo.data.cache.plan import Plan
from yolo.data.cache.promote import UNSYNCED, boot, cannot_write, is_doubtful, remove
from yolo.data.cache.seal import Seal
from yolo.data.cache.settings import VERSION
from yolo.data.cache.store import HEAD, Head
from yolo.data.cache.writer import Item, Writer
from yolo.data.encryption.keys import Key

_log = logging.getLogger("yolo.data")

_PLAN = b"plan"
_ITEMS, _BYTES = 64, 16 << 20  # of one transaction


@dataclass
class Draft:
    """An unfinished cache, open for writing.

    Attributes:
        folder: where it is.
        writer: of its database.
        head: of the cache.
        seal: of its values.
        resumed: whether it holds records of a run before.
    """

    folder: Path
    writer: Writer
    head: Head
    seal: Seal
    resumed: bool

    def __post_init__(self) -> None:
        self._waiting: list[Item] = []
        self._bytes = 0

    def put(self, item: Item) -> None:
        """Store a record, together with others."""
        self._waiting.append(item)
        self._bytes += len(item[1])
        if len(self._waiting) >= _ITEMS or self._bytes >= _BYTES:
            self.commit()

    def commit(self) -> None:
        """Store the records that wait."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if waiting:
            self.writer.put_many(waiting)

    def pause(self) -> None:
        """Store what there is before the work is broken off."""
        self.commit()
        self.writer.flush(required=True)
        (self.folder / UNSYNCED).unlink(missing_ok=True)

    def complete(self, index: CacheIndex, *, sync: bool) -> None:
        """Store the index, and the head that makes a cache of it.

        Raises:
            CacheError: it cannot be written, or, with ``sync``, not be forced to the disk.
        """
        self.commit()
        write_index(self.writer, self.seal, index)
        self.writer.put_many([(HEAD, replace(self.head, complete=True).as_json())])
        self.writer.delete([_PLAN])
        self.writer.flush(required=sync)


def open_draft(folder: Path, plan: Plan, *, key: Key | None, sync: bool, fresh: bool) -> Draft:
    """Open an unfinished cache, or begin one where there is none that was made by the same plan.

    Args:
        folder: of the unfinished cache.
        plan: what it is to hold.
        key: of its encryption.
        sync: write every transaction to the disk at once.
        fresh: begin in any case.

    Raises:
        YoloError: it cannot be written.
    """
    if fresh or is_doubtful(folder):
        _discard(folder)
    elif folder.exists():
        draft = _resume(folder, plan, key=key, sync=sync)
        if draft is not None:
            return draft
        _log.info("What is in %s was begun for other images, settings or another key: starting again", folder)
        _discard(folder)
    writer = Writer(folder, sync=sync)
    try:
        head = Head.new(key=key, records=len(plan))
        seal = head.seal(key, folder)
        writer.put_many([(HEAD, head.as_json()), (_PLAN, seal.close(plan.as_bytes(), _PLAN))])
        _mark(folder, sync=sync)
    except BaseException:
        writer.close()
        raise
    return Draft(folder, writer, head, seal, resumed=False)


def _resume(folder: Path, plan: Plan, *, key: Key | None, sync: bool) -> Draft | None:
    try:
        writer = Writer(folder, sync=sync)
    except (CacheFullError, CacheReadOnlyError):
        raise
    except CacheError:
        return None
    try:
        head = Head.from_json(writer.get(HEAD) or b"")
        seal = head.seal(key, folder)
        made_for = bytes(seal.open(writer.get(_PLAN) or b"", _PLAN))
        if head.version != VERSION or head.encrypted != (key is not None) or made_for != plan.as_bytes():
            raise DamagedRecordError("it was made for something else")
        _mark(folder, sync=sync)
    except (ValueError, CacheError):
        writer.close()
        return None
    except BaseException:
        writer.close()
        raise
    return Draft(folder, writer, head, seal, resumed=True)


def _mark(folder: Path, *, sync: bool) -> None:
    """Note in which boot of the machine the draft is written, unless every write goes to the disk at once."""
    try:
        if sync:
            (folder / UNSYNCED).unlink(missing_ok=True)
        else:
            (folder / UNSYNCED).write_text(boot())
    except OSError as error:
        raise cannot_write(folder, error) from error


def _discard(folder: Path) -> None:
    remove(folder)
    if folder.exists():
        raise cannot_write(folder, OSError("an unfinished cache in it cannot be removed"))
