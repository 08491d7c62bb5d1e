"""What each picture is called in the results."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from yolo.core.results import Detections


class Names:
    """Gives every picture a name of its own.

    Args:
        root: names of files are relative to this folder, where they lie below it.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._taken: set[str] = set()

    def of(self, found: Detections) -> str:
        """Return a name with ``/``; a second picture of one name gets a number.

        A frame is called ``clip_000012.jpg``, a picture from an address by the last part of its path.
        """
        name = self._plain(found)
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            path = PurePosixPath(name)
            unique = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
        self._taken.add(unique)
        return unique

    def _plain(self, found: Detections) -> str:
        if found.frame is not None:
            return f"{stream_name(found)}_{found.frame:06d}.jpg"
        if found.path is not None:
            return self._below_root(found.path)
        if found.source is None or "://" not in found.source:
            return f"{_safe(found.source or 'picture')}.jpg"
        last = PurePosixPath(unquote(urlsplit(found.source).path)).name
        return _safe(last) or "picture.jpg"

    def _below_root(self, path: Path) -> str:
        if self._root is not None and path.is_relative_to(self._root):
            return path.relative_to(self._root).as_posix()
        return path.name


def stream_name(found: Detections) -> str:
    """Name the video, camera or stream that a frame is of, without a suffix."""
    if found.path is not None:
        return found.path.stem
    source = found.source or "video"
    if "://" in source:
        parts = urlsplit(source)
        return _safe(f"{parts.hostname or ''}{parts.path}") or "stream"  # without user, password and query
    return _safe(source)


def _safe(text: str) -> str:
    return re.sub(r"[^\w.\-]+", "_", text).strip("_.")[:80]
