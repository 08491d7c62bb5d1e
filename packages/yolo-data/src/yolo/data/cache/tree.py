"""Whether a database file can be read without a crash.

LMDB trusts its files: it follows page numbers and lengths as they stand there. One flipped bit, a cut file, or a file
that somebody made on purpose then ends the process with a signal, which is no error message. So every page that leads
to a record is looked at first, without LMDB: a tree of branch and leaf pages, some 7,000 for a million records. What
the records hold is not the matter here, their seals tell.

The layout is that of LMDB 0.9 (``mdb.c``: MDB_meta, MDB_page, MDB_node) with 64 bits, little endian.
"""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.data.cache.errors import CacheError, DamagedCacheError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE = struct.Struct("<QHHHH")  # number, -, flags, lower, upper
_META = struct.Struct("<IIQQ")  # magic, version, address, map size; then two databases
_DATABASE = struct.Struct("<IHHQQQQQ")  # page size or -, flags, depth, branches, leaves, overflows, entries, root
_TAIL = struct.Struct("<QQ")  # last page, transaction
_BRANCH, _LEAF, _META_PAGE = 1, 2, 8
_BIG = 1  # a node's data lies in pages of its own
_NODE = 8
_INTEGER_KEYS = 8
_NOTHING = (1 << 64) - 1
_MOST_LEVELS = 32
_LONGEST_KEY = 511
_BATCH = 2048  # pages that are looked at together


@dataclass(frozen=True)
class _Tree:
    root: int
    depth: int


@dataclass(frozen=True)
class _Meta:
    page_size: int
    free: _Tree
    main: _Tree
    pages: int
    transaction: int


def check_tree(path: Path) -> None:
    """Look at every page of a database that leads to its values.

    Args:
        path: of ``data.mdb``.

    Raises:
        DamagedCacheError: reading it with LMDB might crash.
        CacheError: it cannot be read.
    """
    if sys.byteorder != "little":
        return
    try:
        with path.open("rb", buffering=0) as file:
            _Walk(file, os.fstat(file.fileno()).st_size).run()
    except _DamageError as damage:
        raise DamagedCacheError(
            f"the cache {str(path.parent.parent)!r} is damaged: {damage}; make it again with data.cache_refresh: true "
            "or `yolo cache-create`, or import it again"
        ) from None
    except OSError as error:
        raise CacheError(f"{str(path)!r} cannot be read: {error.strerror}") from error


class _DamageError(Exception):
    """What is wrong."""


class _Walk:
    def __init__(self, file: FileIO, size: int) -> None:
        self._file = file
        self._size = size
        self._meta = self._newest()
        #: Pages that can be: numbers below both what the head says and what the file has.
        self._limit = min(self._meta.pages, size // self._meta.page_size)

    def run(self) -> None:
        seen = np.zeros(self._limit, np.bool_)
        for tree, free in ((self._meta.free, True), (self._meta.main, False)):
            level = np.array([] if tree.root == _NOTHING else [tree.root], np.uint64)
            for depth in range(tree.depth, 0, -1):
                outside = (level < 2) | (level >= self._limit)
                _refuse(outside, level)
                pages = level.astype(np.int64)
                _refuse(seen[pages], level)
                seen[pages] = True
                if len(np.unique(pages)) != len(pages):
                    raise _DamageError("its pages form no tree")
                below = [
                    self._pages(pages[start : start + _BATCH], leaf=depth == 1, free=free)
                    for start in range(0, len(pages), _BATCH)
                ]
                level = np.concatenate(below) if below else level

    def _newest(self) -> _Meta:
        first = self._read_meta(0)
        second = self._read_meta(first.page_size)
        if second.page_size != first.page_size:
            raise _DamageError("its two heads contradict each other")
        return second if second.transaction > first.transaction else first

    def _read_meta(self, position: int) -> _Meta:
        size = _PAGE.size + _META.size + 2 * _DATABASE.size + _TAIL.size
        data = self._read(position, size)
        if len(data) < size:
            raise _DamageError("it is cut")
        _, _, flags, _, _ = _PAGE.unpack_from(data)
        magic, version, _, _ = _META.unpack_from(data, _PAGE.size)
        if magic != _MAGIC or not flags & _META_PAGE:
            raise _DamageError("it is no database")
        if version != _VERSION:
            raise _DamageError("its database is of a version that this program does not read")
        start = _PAGE.size + _META.size
        free, main = (_DATABASE.unpack_from(data, start + number * _DATABASE.size) for number in (0, 1))
        last, transaction = _TAIL.unpack_from(data, start + 2 * _DATABASE.size)
        page_size = free[0]
        if not 512 <= page_size <= 0x8000 or page_size & (page_size - 1):
            raise _DamageError("its page size is impossible")
        # With other flags LMDB would map the file to an address that it names, or expect trees in values.
        if free[1] != _INTEGER_KEYS or main[1] != 0:
            raise _DamageError("its head was changed")
        for tree in (free, main):
            if tree[2] > _MOST_LEVELS or (tree[7] == _NOTHING) != (tree[2] == 0):
                raise _DamageError("its head was changed")
        if last >= 2 * (self._size // page_size) + (1 << 20):  # pages at the end may never have been written
            raise _DamageError("it is cut")
        return _Meta(page_size, _Tree(free[7], free[2]), _Tree(main[7], main[2]), last + 1, transaction)

    def _pages(self, pages: NDArray[np.int64], *, leaf: bool, free: bool) -> NDArray[np.uint64]:
        """Check pages of one level and return the numbers of those below them."""
        size = self._meta.page_size
        data = np.zeros((len(pages), size), np.uint8)
        for row, page in zip(data, pages.tolist(), strict=True):
            self._file.seek(page * size)
            if self._file.readinto(row.data) != size:
                raise _DamageError("it is cut")
        words = data.view(np.uint16)
        own, (flags, lower, upper) = data[:, :8].copy().view(np.uint64)[:, 0], words[:, 5:8].astype(np.int64).T
        counts = (lower - _PAGE.size) // 2
        least = 1 if leaf or free else 2
        wrong = (own != pages) | (flags != (_LEAF if leaf else _BRANCH)) | (counts < least)
        _refuse(wrong | (lower > upper) | (upper > size), pages)
        rows = np.repeat(np.arange(len(pages)), counts)  # of each node
        position = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = words[rows, _PAGE.size // 2 + position].astype(np.int64)
        _refuse((starts % 2 != 0) | (starts < upper[rows]) | (starts > size - _NODE), pages[rows])
        low, high, third, keys = (words[rows, starts // 2 + offset].astype(np.int64) for offset in range(4))
        ends = starts + _NODE + keys
        _refuse((keys > _LONGEST_KEY) | (ends > size), pages[rows])
        if not leaf:
            return np.asarray(low | high << 16 | third << 32, np.uint64)
        lengths, big = low | high << 16, third == _BIG
        _refuse((third & ~_BIG != 0) | (ends + np.where(big, 8, lengths) > size), pages[rows])
        self._check_values(data, rows[big], ends[big], lengths[big], pages)
        if free:
            for row, end, length in zip(rows[~big], ends[~big], lengths[~big], strict=True):
                self._check_free(int(pages[row]), data[row, end : end + length].tobytes())
        return np.zeros(0, np.uint64)

    def _check_values(
        self,
        data: NDArray[np.uint8],
        rows: NDArray[np.int64],
        places: NDArray[np.int64],
        lengths: NDArray[np.int64],
        pages: NDArray[np.int64],
    ) -> None:
        """Check where the large values of leaf pages lie."""
        octets = data[rows[:, None], places[:, None] + np.arange(8)]
        first = octets.view(np.uint64)[:, 0]
        _refuse((first < 2) | (first >= self._limit), pages[rows])
        needed = -(-(lengths + _PAGE.size) // self._meta.page_size)
        _refuse(first.astype(np.int64) + needed > self._limit, pages[rows])

    def _check_free(self, number: int, content: bytes) -> None:
        """Check a list of pages that may be written again: a count, then as many numbers, falling."""
        values = np.frombuffer(content[: len(content) & ~7], np.uint64)
        listed = values[1:].astype(np.int64)
        wrong = len(content) % 8 != 0 or not len(values) or int(values[0]) != len(listed)
        if not wrong and len(listed):
            wrong = bool(listed.min() < 2 or listed.max() >= self._meta.pages or (np.diff(listed) >= 0).any())
        _refuse(np.array([wrong]), np.array([number]))

    def _read(self, position: int, count: int) -> bytes:
        self._file.seek(position)
        return self._file.read(count)


def _refuse(wrong: NDArray[np.bool_], pages: NDArray[Any]) -> None:
    if wrong.any():
        page = int(pages[int(np.argmax(wrong))])
        raise _DamageError(f"page {page} of its database cannot be what was written")
