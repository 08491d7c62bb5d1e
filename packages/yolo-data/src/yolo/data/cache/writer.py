"""The database of a cache, LMDB, for writing: by one thread of one process, into a map that grows."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import lmdb

from yolo.data.cache.errors import CacheError, CacheFullError, CacheReadOnlyError
from yolo.data.cache.readers import DATABASE, close_reader, damaged, database_file
from yolo.data.cache.tree import check_tree

#: A key and its value.
Item = tuple[bytes, bytes]

_FIRST_MAP = 1 << 26
_LARGEST_MAP = 1 << 46
_FULL = 1 << 25  # free bytes below which a failed write is taken for a full disk
_PAGE = 1 << 16


class Writer:
    """A database that is being filled. A context manager: it is closed at the end of the block.

    Args:
        folder: of the cache; made where it is missing.
        sync: write every transaction to the disk at once. Not: a power cut may tear the file, a killed process not.

    Raises:
        DamagedCacheError: there is a database, and it is cut or torn.
        CacheFullError: the disk is full.
        CacheReadOnlyError: the folder cannot be written.
        CacheError: anything else that the system has against it.
    """

    def __init__(self, folder: Path, *, sync: bool = False) -> None:
        self.folder = folder
        path, file = folder / DATABASE, database_file(folder)
        with self._translated():
            path.mkdir(parents=True, exist_ok=True)
            size = file.stat().st_size if file.exists() else 0
            if size:
                close_reader(folder)
                check_tree(file)
            # `meminit` stays on: without it stale memory, decrypted pictures included, would reach the file.
            self._env = lmdb.open(
                str(path), map_size=_rounded(max(_FIRST_MAP, 2 * size)), sync=sync, metasync=sync, readahead=False
            )

    def put_many(self, items: Sequence[Item]) -> None:
        """Store items in one transaction: all of them or, after an error or a kill, none.

        Raises:
            CacheError: as the class.
        """
        self._change(lambda txn: _put(txn, items))

    def replace(self, prefix: bytes, make: Callable[[], Iterable[Item]]) -> None:
        """Delete every key with a prefix and store items, in one transaction.

        Args:
            prefix: of the keys.
            make: gives the items; it may be called again, when the map has to grow.

        Raises:
            CacheError: as the class.
        """

        def change(txn: lmdb.Transaction) -> None:
            for key in list(_keys(txn, prefix)):
                txn.delete(key)
            _put(txn, make())

        self._change(change)

    def delete(self, keys: Sequence[bytes]) -> None:
        """Delete keys in one transaction; those that are missing do not matter."""

        def change(txn: lmdb.Transaction) -> None:
            for key in keys:
                txn.delete(key)

        self._change(change)

    def get(self, key: bytes) -> bytes | None:
        """Return a value, None where there is none."""
        with self._translated(), self._env.begin() as txn:
            value: bytes | None = txn.get(key)
            return value

    def items(self, prefix: bytes) -> Iterator[Item]:
        """Go through all keys with a prefix, in order. Do not write meanwhile."""
        with self._translated(), self._env.begin() as txn:
            for key in _keys(txn, prefix):
                yield key, bytes(txn.get(key) or b"")

    def flush(self, *, required: bool) -> None:
        """Write everything to the disk.

        Args:
            required: raise when the system refuses (some external volumes do); otherwise that is passed over.

        Raises:
            CacheFullError: the disk is full, which only came out now.
            CacheError: it is required, and refused.
        """
        try:
            with self._translated():
                self._env.sync(True)
        except CacheFullError:
            raise
        except CacheError:
            if required:
                raise

    def close(self) -> None:
        """Close the database."""
        self._env.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _change(self, change: Callable[[lmdb.Transaction], None]) -> None:
        with self._translated():
            while True:
                try:
                    with self._env.begin(write=True) as txn:
                        change(txn)
                    return
                except lmdb.MapFullError:
                    size = 2 * self._env.info()["map_size"]
                    if size > _LARGEST_MAP:
                        raise
                    self._env.set_mapsize(size)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, lmdb.Error) as error:
            raise self._explained(error) from error

    def _explained(self, error: OSError | lmdb.Error) -> CacheError:
        code = error.errno if isinstance(error, OSError) else getattr(error, "code", None)
        name = str(self.folder)
        # LMDB reports a write that was cut short as an input/output error: that is how disks get full.
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or (code == errno.EIO and self._free() < _FULL):
            return CacheFullError(
                f"the disk is full: {self._free() >> 20} MiB are left for the cache in {name!r}; make room there, or "
                "set data.cache_dir to another disk, and run this again: it goes on where it stopped"
            )
        if code in (errno.EROFS, errno.EACCES, errno.EPERM):
            return CacheReadOnlyError(
                f"the cache cannot be written in {name!r}: {os.strerror(code)}; set data.cache_dir to another folder"
            )
        if isinstance(error, OSError):
            return CacheError(f"the cache cannot be written in {name!r}: {error.strerror or error}")
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError | lmdb.PanicError):
            return damaged(self.folder, str(error))
        hint = "; is there a limit on disk space or file size (a quota, ulimit -f)?" if code == errno.EIO else ""
        return CacheError(f"the cache cannot be written in {name!r}: {error}{hint}")

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return 0


def _put(txn: lmdb.Transaction, items: Iterable[Item]) -> None:
    for key, value in items:
        txn.put(key, value)


def _keys(txn: lmdb.Transaction, prefix: bytes) -> Iterator[bytes]:
    cursor = txn.cursor()
    found = cursor.set_range(prefix)
    while found and (key := bytes(cursor.key())).startswith(prefix):
        yield key
        found = cursor.next()


def _rounded(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
