"""The database of a cache, LMDB, for reading: opened once per process and file, and again after a fork.

LMDB allows a file to be open once in a process, and an open database must not be used behind a fork. Readers take no
lock, because a complete cache is only ever replaced as a whole (see :mod:`yolo.data.cache.promote`): reading needs no
right to write.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb

from yolo.data.cache.errors import CacheError, DamagedCacheError, MissingCacheError
from yolo.data.cache.tree import check_tree

#: Name of the database's folder in a cache's folder.
DATABASE = "cache.lmdb"

_Identity = tuple[int, int]
_lock = threading.Lock()
_open: dict[_Identity, lmdb.Environment] = {}
_sound: dict[_Identity, tuple[int, int]] = {}
_generation = 0


def database_file(folder: Path) -> Path:
    """Return the file that holds a cache's data."""
    return folder / DATABASE / "data.mdb"


def generation() -> int:
    """A number that is another one when environments of this process were closed, by a fork or on request."""
    return _generation


def open_reader(folder: Path, *, trusted: bool = False) -> lmdb.Environment:
    """Return the environment of a cache for reading; every caller in the process gets the same one.

    Do not keep it across a change of :func:`generation`, and keep transactions short.

    Args:
        folder: of the cache.
        trusted: another process has looked at the file: its structure is not checked once more.

    Raises:
        MissingCacheError: there is no database.
        DamagedCacheError: it is cut or changed so that reading it could crash.
        CacheError: it cannot be opened for another reason.
    """
    with _lock:
        identity, state = _identify(folder)
        env = _open.get(identity)
        if env is None:
            if not trusted and _sound.get(identity) != state:
                check_tree(database_file(folder))
            env = _open[identity] = _environment(folder)
            _sound[identity] = state
        return env


@contextmanager
def reader(folder: Path) -> Iterator[lmdb.Environment]:
    """Give the environment of a cache for a moment; it stays open only where it was open before.

    Raises:
        CacheError: as :func:`open_reader`.
    """
    with _lock:
        was_open = _identify(folder)[0] in _open
    try:
        yield open_reader(folder)
    finally:
        if not was_open:
            close_reader(folder)


def close_reader(folder: Path) -> None:
    """Close the environment of a cache, so that its files can be removed, or written by this process."""
    global _generation
    with _lock, suppress(CacheError):
        env = _open.pop(_identify(folder)[0], None)
        if env is not None:
            _generation += 1
            env.close()


def close_all() -> None:
    """Close every environment that this process reads; they are opened again when they are needed."""
    global _generation
    with _lock:
        _generation += 1
        while _open:
            _open.popitem()[1].close()


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turn LMDB's errors while reading into those of a cache."""
    try:
        yield
    except lmdb.Error as error:
        raise damaged(folder, str(error)) from error


def damaged(folder: Path, reason: str) -> DamagedCacheError:
    """Return the error for a cache whose files are not what was written."""
    return DamagedCacheError(
        f"the cache {str(folder)!r} is damaged: {reason}; make it again with data.cache_refresh: true or "
        "`yolo cache-create`, or import it again"
    )


def _identify(folder: Path) -> tuple[_Identity, tuple[int, int]]:
    """What file it is, and in which state."""
    try:
        facts = database_file(folder).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingCacheError(f"there is no cache in {str(folder)!r}") from None
    except OSError as error:
        raise CacheError(f"the cache {str(folder)!r} cannot be read: {error.strerror}") from error
    return (facts.st_dev, facts.st_ino), (facts.st_size, facts.st_mtime_ns)


def _environment(folder: Path) -> lmdb.Environment:
    file = database_file(folder)
    try:
        size = file.stat().st_size
        # A map as large as the file: LMDB's default would be too small, and more would be asked of the system. The file
        # is named, not its folder: lmdb takes a folder for open whose number a deleted one had that still is.
        return lmdb.open(
            str(file), subdir=False, map_size=size, readonly=True, lock=False, create=False, readahead=False
        )
    except OSError as error:
        raise CacheError(f"the cache {str(folder)!r} cannot be read: {error.strerror}") from error
    except lmdb.Error as error:
        code = getattr(error, "code", None)
        if code in (errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
            raise CacheError(f"the cache {str(folder)!r} cannot be read: {os.strerror(code)}") from error
        if "already open" in str(error):
            raise CacheError(f"the cache {str(folder)!r} is being written by this process") from error
        raise damaged(folder, str(error)) from error


def _after_fork() -> None:
    """Let go of what belongs to the parent process, whose own copies this does not touch."""
    global _generation, _lock
    _lock = threading.Lock()
    _generation += 1
    while _open:
        _open.popitem()[1].close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
