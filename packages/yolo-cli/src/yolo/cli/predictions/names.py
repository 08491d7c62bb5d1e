"""What each picture is called in the results."""

from __future__ import annotations

import glob
import itertools
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from yolo.core.results import Detections


class Unique:
    """Gives every name once."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def __call__(self, *wanted: str) -> str:
        """Return the first of the names that is free; when none is, the last one with a number: ``a_2.jpg``."""
        for name in wanted:
            if name not in self._given:
                self._given[name] = 1
                return name
        path, number = PurePosixPath(wanted[-1]), self._given[wanted[-1]]
        unique = wanted[-1]
        while unique in self._given:
            number += 1
            unique = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
        self._given |= {wanted[-1]: number, unique: 1}
        return unique


class Names:
    """Gives every picture a name of its own.

    Args:
        root: names of files are relative to this folder, where they lie below it.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._unique = Unique()
        self._stream = ""

    def of(self, found: Detections) -> str:
        """Return a name with ``/``; a second picture of one name gets a number.

        A frame is called ``clip_000012.jpg``, a picture from an address by the last part of its path.
        """
        if found.frame is None:
            return self._unique(self._plain(found))
        if found.frame == 0:  # frames are not remembered one by one: a camera may run for weeks
            self._stream = self._unique(_stream_name(found))
        return f"{self._stream}_{found.frame:06d}.jpg"

    def _plain(self, found: Detections) -> str:
        if found.path is not None:
            return self._below_root(found.path)
        if found.source is None or "://" not in found.source:
            return f"{_safe(found.source or 'picture')}.jpg"
        last = PurePosixPath(unquote(urlsplit(found.source).path)).name
        return _safe(last) or "picture.jpg"

    def _below_root(self, path: Path) -> str:
        if self._root is not None and path.is_relative_to(self._root):
            below = path.relative_to(self._root)
            if ".." not in below.parts:
                return below.as_posix()
        return path.name


def root_of(source: str) -> Path | None:
    """Return the folder that the pictures of a source have in common: itself, that of a list, or that of a pattern."""
    path = Path(source)
    if "://" in source:
        return None
    if path.is_dir():
        return path
    if path.exists() or not glob.has_magic(source):
        return path.parent
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), path.parent.parts)
    return Path(*fixed)


def stream_of(name: str) -> str:
    """Return the name of the video or stream that a frame's name begins with."""
    return name.rpartition("_")[0]


def _stream_name(found: Detections) -> str:
    if found.path is not None:
        return found.path.stem
    source = found.source or "video"
    if "://" in source:
        parts = urlsplit(source)
        return _safe(f"{parts.hostname or ''}{parts.path}") or "stream"  # without user, password and query
    return _safe(source)


def _safe(text: str) -> str:
    return re.sub(r"[^\w.\-]+", "_", text).strip("_.")[:80]
