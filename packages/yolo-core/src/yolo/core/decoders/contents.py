"""The bytes of an image file, read or mapped."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from yolo.core.decoders.header import Buffer

#: Files above this many bytes are mapped; below it reading is faster than setting up the mapping.
MAPPED_ABOVE = 1 << 20
_MOST = 1 << 28  # a larger file is no ordinary picture
# Opening a named pipe would wait for ever; line ends must not be translated.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def contents(path: str, *, use_mmap: bool) -> Iterator[Buffer | None]:
    """Give the bytes of a file for the time of the ``with`` block; the file is closed before the block begins.

    Args:
        path: of the file.
        use_mmap: map a file of more than :data:`MAPPED_ABOVE` bytes instead of reading it.

    Yields:
        ``bytes``, a read-only mapping, or None when this is no ordinary file: absent, empty, a pipe, or huge.
    """
    data = _open(path, use_mmap=use_mmap)
    try:
        yield data
    finally:
        if isinstance(data, mmap.mmap):
            with suppress(BufferError):  # an array still looks at it: then it is closed together with the array
                data.close()


def _open(path: str, *, use_mmap: bool) -> Buffer | None:
    try:
        handle = os.open(path, _FLAGS)
    except (OSError, ValueError):
        return None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or not 0 < facts.st_size <= _MOST:
            return None
        if use_mmap and facts.st_size > MAPPED_ABOVE:
            return mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(handle)


def read_whole(path: str, limit: int) -> bytes | None:
    """Return the bytes of a regular file of at most ``limit`` bytes, None when it is larger.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    handle = os.open(path, _FLAGS)
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        if facts.st_size > limit:
            return None
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)
