"""Working on a cache alone, and leaving no trace of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yolo.data.cache.promote import building


@contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """Hold the lock of a cache, and remove its file in the end.

    Removing it is safe while it is held: who opened the file before finds that it is gone, and does not take it for a
    lock (see ``filelock``).

    Raises:
        CacheBusyError: another process holds it.
        YoloError: the folder around the cache cannot be written.
    """
    with building(folder):
        try:
            yield
        finally:
            with suppress(OSError):
                folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
