"""A picture from an http or https address. Importable without torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

from yolo.core.fetch import FetchError, Patience, fetch
from yolo.core.images import ImageError

_LARGEST = 256 << 20  # bytes; no picture that can be decoded here is larger
_PATIENCE = Patience(timeout=15.0, attempts=2)


def read_remote(url: str) -> bytes:
    """Fetch a file of at most 256 MiB.

    Raises:
        ImageError: why not; the message names the address.
    """

    def watch(done: int, whole: int | None) -> None:
        if max(done, whole or 0) > _LARGEST:
            raise FetchError(f"it is larger than {_LARGEST >> 20} MiB")

    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "picture"
        try:
            fetch(url, part, patience=_PATIENCE, progress=watch)
        except FetchError as error:
            raise ImageError(f"{url}: {error}") from error
        return part.read_bytes()
