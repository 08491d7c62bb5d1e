"""One process, or thread, at a time: a lock on a file that the operating system lets go when its holder dies."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextmanager
def process_lock(path: Path, *, wait: float, sign_of_life: Callable[[], object], pause: float = 0.1) -> Iterator[None]:
    """Hold the lock of a file, which is made and stays, while the block runs.

    Args:
        path: the file; it holds nothing.
        wait: seconds to wait for another holder since it last showed a sign of life.
        sign_of_life: a value that changes while the other holder gets on.
        pause: seconds between two tries.

    Raises:
        TimeoutError: the other holder did not get on for ``wait`` seconds.
        OSError: the file cannot be made, or the file system has no locks.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        seen, since = sign_of_life(), time.monotonic()
        while not _try_lock(handle):
            now = sign_of_life()
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > wait:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock", str(path))
            time.sleep(pause)
        yield
    finally:
        os.close(handle)  # closing lets the lock go


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True
