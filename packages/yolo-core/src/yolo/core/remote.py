"""A picture from an http or https address. Importable without torch."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from yolo.core.fetch import FetchError, Patience, fetch
from yolo.core.frames import without_login
from yolo.core.images import ImageError

LARGEST = 256 << 20  # bytes; no picture that can be decoded here is larger
_LONGEST = 120.0  # seconds; a stream of pictures at an address that looks like one picture never ends
_PATIENCE = Patience(timeout=15.0, attempts=2)


def read_remote(url: str) -> bytes:
    """Fetch a file of at most 256 MiB, in at most two minutes or so.

    Args:
        url: as people write it: blanks and other letters than ASCII's may stand as they are.

    Raises:
        ImageError: why not; the message names the address.
    """
    end = time.monotonic() + _LONGEST
    address = quote(url, safe="%/:=&?~#+!$,;'@()*[]")

    def watch(done: int, whole: int | None) -> None:
        if max(done, whole or 0) > LARGEST:
            raise FetchError(f"it is larger than {LARGEST >> 20} MiB")
        if time.monotonic() > end:
            raise FetchError(f"it is still not complete after {_LONGEST:.0f} s; is it a stream?")

    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "picture"
        try:
            fetch(address, part, patience=_PATIENCE, progress=watch)
        except FetchError as error:
            raise ImageError(f"{without_login(url)}: {error}") from error
        return part.read_bytes()
