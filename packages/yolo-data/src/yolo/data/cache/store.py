"""Reading a cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from yolo.data.cache.errors import (
    CacheError,
    DamagedCacheError,
    DamagedRecordError,
    MissingCacheError,
    StaleCacheError,
)
from yolo.data.cache.head import HEAD, Head, read_head
from yolo.data.cache.index import CacheIndex, read_index, read_path
from yolo.data.cache.pictures import RecordInfo, SourceFacts, decode_record, record_facts
from yolo.data.cache.readers import damaged, database_file, generation, open_reader, translated
from yolo.data.cache.seal import Bytes, Seal, record_label
from yolo.data.cache.settings import VERSION
from yolo.data.encryption.keys import Key
from yolo.data.loaders.base import Pixels
from yolo.data.spill import Spilled, is_spawning, spill

__all__ = ["HEAD", "CacheStore", "Head", "read_head"]

_CHUNK = 8 << 20


class CacheStore:
    """A complete cache, for reading. Make one with :meth:`open`.

    Threads may share it. Pickled, it takes the checks of the records to a worker, but neither the key (the worker finds
    it, see :mod:`yolo.data.encryption.keys`) nor the index, and the worker opens the file for itself.

    Attributes:
        folder: of the cache.
        head: of the cache.
        seal: of its values.
    """

    def __init__(self, folder: Path, head: Head, seal: Seal, checks: NDArray[np.uint8] | None = None) -> None:
        self.folder = folder
        self.head = head
        self.seal = seal
        self._given_checks = checks
        self._env: lmdb.Environment | None = None
        self._generation = -1
        self._trusted = False
        self._spilled: Spilled | None = None

    @classmethod
    def open(cls, folder: Path, *, key: Key | None) -> CacheStore:
        """Open a complete cache of this version.

        Args:
            folder: of the cache.
            key: of an encrypted one.

        Raises:
            MissingCacheError: there is none, or only the beginning of one.
            StaleCacheError: it was made by another version.
            MissingCacheKeyError: it is encrypted, and there is no key.
            WrongCacheKeyError: it was encrypted with another key.
            DamagedCacheError: its files are not what was written.
        """
        folder = Path(os.path.abspath(folder))  # noqa: PTH100  # links stay: the folder may be replaced through one
        head = read_head(folder)
        if head is None:
            raise MissingCacheError(f"there is no cache in {str(folder)!r}: make one with `yolo cache-create`")
        if head.version != VERSION:
            raise StaleCacheError(
                f"the cache {str(folder)!r} cannot be used: version changed ({head.version} → {VERSION}); make it "
                "again with data.cache_refresh: true or `yolo cache-create`"
            )
        if not head.complete:
            raise MissingCacheError(
                f"the cache {str(folder)!r} was never finished: make it again with `yolo cache-create`"
            )
        return cls(folder, head, head.seal(key, folder))

    def __reduce__(self) -> tuple[Any, ...]:
        checks: NDArray[np.uint8] | Spilled = self._checks
        if is_spawning():
            if self._spilled is None:
                self._spilled = spill({"checks": self._checks}, self, secret=self.head.encrypted)
            checks = self._spilled
        return _attach, (self.folder, self.head, self.seal, checks)

    def __len__(self) -> int:
        return self.head.records

    @cached_property
    def index(self) -> CacheIndex:
        """Everything but the pictures.

        Raises:
            DamagedCacheError: it is not what was written.
        """
        return read_index(self._environment(), self.seal, self.head)

    @cached_property
    def _checks(self) -> NDArray[np.uint8]:
        return self.index.checks if self._given_checks is None else self._given_checks

    def read(self, record: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Pixels:
        """Return the picture of a record.

        Args:
            record: its number.
            least: (width, height) that is needed of the stored picture, see :meth:`ImageLoader.read`.
            rows: number of rows of it that are needed, from the top, likewise.

        Returns:
            A new contiguous array, uint8 ``[H, W, 3]`` RGB.

        Raises:
            DamagedRecordError: the record is not the one that the index was made with; the message names the image.
            DamagedCacheError: the file cannot be read, or was replaced by another cache.
        """
        with self.content(record) as content:
            return decode_record(content, least=least, rows=rows)

    def info(self, record: int) -> RecordInfo:
        """Return what a record's source was, and (width, height) of its picture; raise as :meth:`read`."""
        with self.content(record) as content:
            return record_facts(content)

    def facts(self, record: int) -> SourceFacts:
        """Return what the source of a record was; raise as :meth:`read`."""
        return self.info(record).facts

    @contextmanager
    def content(self, record: int) -> Iterator[Bytes]:
        """Give an opened record as :func:`encode_record` made it, valid within the block; raise as :meth:`read`."""
        if not 0 <= record < len(self._checks):
            raise IndexError(f"the cache has {len(self._checks)} records, there is no number {record}")
        label = record_label(record)
        try:
            with self._environment().begin(buffers=True) as txn:
                stored = txn.get(label)
                if stored is None:
                    raise DamagedRecordError("it is missing")
                if self.seal.check(stored) != self._checks[record].tobytes():
                    raise DamagedRecordError("it is not the one that the cache was made with")
                yield self.seal.open(stored, label)
        except DamagedRecordError as error:
            raise self._damaged(record, str(error)) from error
        except lmdb.Error as error:
            raise damaged(self.folder, str(error)) from error

    def _damaged(self, record: int, reason: str) -> DamagedRecordError:
        path = read_path(self._environment(), self.seal, record)
        name = f"record {record}" if path is None else repr(path)
        return DamagedRecordError(
            f"{name} in the cache {str(self.folder)!r} is damaged: {reason}; `yolo cache-verify` finds all that is "
            "damaged, data.cache_refresh: true makes the cache again where the images are; elsewhere import it again"
        )

    def file_size(self) -> int:
        """Bytes of the cache's file."""
        return database_file(self.folder).stat().st_size

    def prefault(self) -> None:
        """Bring all of the file into the system's file cache, from which every process reads it.

        Raises:
            CacheError: it cannot be read.
        """
        path = database_file(self.folder)
        buffer = bytearray(_CHUNK)
        try:
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
        except OSError as error:
            raise CacheError(f"{str(path)!r} cannot be read: {error.strerror}") from error

    def _environment(self) -> lmdb.Environment:
        env = self._env
        if env is None or self._generation != generation():
            number = generation()
            env = open_reader(self.folder, trusted=self._trusted)
            self._check_identity(env)
            self._env, self._generation = env, number
        return env

    def _check_identity(self, env: lmdb.Environment) -> None:
        """A cache that is made again while a run reads it has its name: it must not be mixed with the old one."""
        with translated(self.folder), env.begin() as txn:
            text = txn.get(HEAD) or b""
        try:
            same = Head.from_json(text).cache_id == self.head.cache_id
        except ValueError:
            same = False
        if not same:
            raise DamagedCacheError(
                f"the cache {str(self.folder)!r} was replaced by another one while it was being read: start again"
            )


def _attach(folder: Path, head: Head, seal: Seal, checks: NDArray[np.uint8] | Spilled) -> CacheStore:
    store = CacheStore(folder, head, seal, checks.attach()["checks"] if isinstance(checks, Spilled) else checks)
    store._trusted = True
    return store
