"""List files: one image a line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from yolo.core.errors import YoloError
from yolo.core.images import IMAGE_SUFFIXES
from yolo.data.formats.report import Report, excerpt, show
from yolo.data.formats.scan import image_files
from yolo.data.formats.textfile import read_bytes

_LIMIT = 1 << 30


class _Index:
    """Names and stems of every image below some folders, listed once and only when needed."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._paths: dict[str, list[str]] | None = None

    def find(self, name: str) -> list[str]:
        if self._paths is None:
            self._paths = {}
            for path in {path for folder in self._folders if folder.is_dir() for path in image_files(folder)}:
                base = os.path.basename(path)  # noqa: PTH119  # hot
                for key in (base, os.path.splitext(base)[0]):  # noqa: PTH122  # hot
                    self._paths.setdefault(key, []).append(path)
        return self._paths.get(name, [])


def read_list(path: Path, *, folders: Sequence[Path], report: Report) -> list[str]:
    """Return the absolute paths of the images that a list file names, in its order.

    A line is a file name, or a path relative to one of the folders or to the list file (``images/0.png``,
    ``./images/train/0.png``), or absolute. A bare name, with or without its suffix, is also looked for in sub-folders.
    Blank lines are skipped; a line that repeats an image is dropped with a warning.

    Raises:
        YoloError: naming file and line when an image is not found or a bare name fits several.
    """
    data = read_bytes(path, limit=_LIMIT)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise YoloError(f"{show(path)}: the list is in UTF-16; save it as UTF-8")
    bases = list(dict.fromkeys([*(str(folder) for folder in folders), str(path.absolute().parent)]))
    index, seen, images = _Index(folders or [path.absolute().parent]), set(), []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        line = os.fsdecode(raw)
        if not line.strip():
            continue
        found = _find(line, bases, index, f"{show(path)} line {number}")
        if found in seen:
            report.add("lines repeat an image and were dropped", f"{show(path)} line {number}")
            continue
        seen.add(found)
        images.append(found)
    if not images:
        raise YoloError(f"{show(path)}: the list names no image")
    return images


def _find(line: str, bases: list[str], index: _Index, where: str) -> str:
    for text in dict.fromkeys((line, line.strip())):  # as it stands first: a name may begin with a space
        for base in bases:
            candidate = os.path.normpath(os.path.join(base, text))  # noqa: PTH118  # hot, and keeps odd names
            if os.path.isfile(candidate):  # noqa: PTH113  # hot
                return candidate
    name = line.strip()
    if "/" not in name:
        hits = index.find(name)
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise YoloError(f"{where}: {excerpt(name)} fits {len(hits)} images; write its folder too")
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise YoloError(f"{where}: {excerpt(name)} is not the name of an image that exists")
    tried = ", ".join(show(os.path.normpath(os.path.join(base, name))) for base in bases[:3])  # noqa: PTH118  # as above
    raise YoloError(f"{where}: no image {excerpt(name)}; tried {tried}")
