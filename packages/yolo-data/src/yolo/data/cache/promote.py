"""A cache takes its name only when it is complete, and a kill at any moment can be healed.

Beside a cache's folder there may be, for a while:

* ``<folder>.partial``: one that is being built. It is never read from.
* ``<folder>.copy``: a copy whose index is being changed. Likewise.
* ``<folder>.old``: what a new one replaced.
* ``<folder>.lock``: held by who builds. The file stays; that the system holds a lock on it is what counts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from yolo.core.errors import YoloError
from yolo.data.cache.errors import CacheError
from yolo.data.cache.head import read_head
from yolo.data.cache.readers import close_reader

#: In a draft whose last writes may not be on the disk: the boot of the machine they were made in.
UNSYNCED = "unsynced"


class CacheBusyError(CacheError):
    """Another process is building the same cache."""


def real(folder: Path) -> Path:
    """Return the folder itself where it is a link, so that what lies beside it is on the same disk."""
    return Path(os.path.realpath(folder))


def partial_folder(folder: Path) -> Path:
    """Return where the cache of ``folder`` is built."""
    return folder.with_name(f"{folder.name}.partial")


def copy_folder(folder: Path) -> Path:
    """Return where a copy of ``folder`` is changed."""
    return folder.with_name(f"{folder.name}.copy")


@contextlib.contextmanager
def building(folder: Path) -> Iterator[None]:
    """Be the only one to change a cache.

    Raises:
        CacheBusyError: somebody else is at it.
        YoloError: the folder around it cannot be written.
    """
    lock = FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not folder.is_dir():
            raise YoloError(f"{folder} is a file: the cache is a folder of that name; remove the file")
        lock.acquire()
    except Timeout:
        raise CacheBusyError(
            f"another process is building the cache {folder}: wait until it has finished, and run this again"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise cannot_write(folder.parent, error) from error
    try:
        yield
    finally:
        lock.release()


def cannot_write(folder: Path, error: Exception) -> YoloError:
    """Return the error for a folder that a cache cannot be written into."""
    reason = getattr(error, "strerror", None) or error
    return YoloError(
        f"the cache cannot be written into {folder}: {reason}; set data.cache_dir to a folder that can be written"
    )


def heal(folder: Path) -> None:
    """Finish what a kill interrupted: put a complete cache in its place, remove what it replaced.

    Call it before looking for a cache in ``folder``. Where another process is building, that one does it.

    Raises:
        YoloError: there is a cache, but it cannot be given its name: the folder around it cannot be written.
    """
    folder = real(folder)
    if not any(path.exists() for path in (partial_folder(folder), copy_folder(folder), _old(folder))):
        return
    try:
        with building(folder):
            finish(folder)
    except CacheBusyError:
        return
    except YoloError:
        if not folder.exists() and is_complete(partial_folder(folder)):
            raise


def finish(folder: Path) -> None:
    """As :func:`heal`, for who holds the lock."""
    partial, old = partial_folder(folder), _old(folder)
    remove(copy_folder(folder))
    try:
        if is_complete(partial):
            put_in_place(partial, folder)
        elif old.exists() and not folder.exists() and is_complete(old):
            old.rename(folder)
        else:
            remove(old)
    except OSError as error:
        raise cannot_write(folder.parent, error) from error


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a cache that was finished, and whose last writes cannot have been lost."""
    try:
        head = read_head(folder)
    except YoloError:
        return False
    return head is not None and head.complete and not is_doubtful(folder)


def is_doubtful(folder: Path) -> bool:
    """Whether the machine went down before a draft was surely on the disk: LMDB's file may be torn then."""
    try:
        return (folder / UNSYNCED).read_text() != boot()
    except OSError:
        return False


def boot() -> str:
    """Something that is another after the machine was started anew; empty where it cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def put_in_place(draft: Path, folder: Path) -> None:
    """Give a complete cache its name; what had it before is removed afterwards.

    Args:
        draft: beside ``folder``. It must not be open in this process.
        folder: its final name; closed when this process reads it. Hold the lock, see :func:`building`.

    Raises:
        YoloError: the folder around them cannot be written.
    """
    old = _old(folder)
    try:
        (draft / UNSYNCED).unlink(missing_ok=True)
        close_reader(folder)
        if folder.exists():
            remove(old)
            folder.rename(old)
        draft.rename(folder)
    except OSError as error:
        raise cannot_write(folder.parent, error) from error
    _sync(folder.parent)
    remove(old)


def remove(folder: Path) -> None:
    """Remove a folder as far as it goes: what is left is removed the next time."""
    shutil.rmtree(folder, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")


def _sync(folder: Path) -> None:
    """Write the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
