"""List files: one image a line."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from yolo.core.images import IMAGE_SUFFIXES
from yolo.data.encryption.names import image_stem, stored_file
from yolo.data.formats import kinds
from yolo.data.formats.report import DataError, Place, Report, excerpt, show
from yolo.data.formats.scan import image_files
from yolo.data.formats.textfile import read_bytes

_LIMIT = 1 << 30


class _Index:
    """Names and stems of every image below some folders, listed once and only when needed."""

    def __init__(self, folders: Sequence[Path], extra: Collection[str]) -> None:
        self._folders = folders
        self._extra = extra
        self._paths: dict[str, list[str]] | None = None

    def find(self, name: str) -> list[str]:
        if self._paths is None:
            self._paths = {}
            for path in {path for folder in self._folders if folder.is_dir() for path in self._list(folder)}:
                base = os.path.basename(path)  # noqa: PTH119  # hot
                for key in dict.fromkeys((base, os.path.splitext(base)[0], image_stem(base, self._extra))):  # noqa: PTH122
                    self._paths.setdefault(key, []).append(path)
        hits = self._paths.get(name, [])
        if not hits and self._extra:  # a.jpg may be stored as a.enc
            stem = image_stem(name)
            wanted = {stem + suffix for suffix in self._extra}
            hits = [path for path in self._paths.get(stem, []) if os.path.basename(path) in wanted]  # noqa: PTH119
        return hits

    def _list(self, folder: Path) -> list[str]:
        return image_files(folder, extra=self._extra)


def read_list(path: Path, *, folders: Sequence[Path], report: Report, extra: Collection[str] = ()) -> list[str]:
    """Return the absolute paths of the images that a list file names, in its order.

    A line is a file name, or a path relative to one of the folders or to the list file (``images/0.png``,
    ``./images/train/0.png``), or absolute. A bare name, with or without its suffix, is also looked for in sub-folders.
    Blank lines are skipped; a line that repeats an image is dropped with a warning. With ``extra`` suffixes
    (``ImageLoader.extra_suffixes``) a line ``a.jpg`` also finds ``a.jpg.enc`` and ``a.enc``.

    Raises:
        DataError: naming file and line when an image is not found or a bare name fits several.
    """
    data = read_bytes(path, limit=_LIMIT)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError("not-utf8", Place(str(path)), "the list is in UTF-16; save it as UTF-8")
    bases = list(dict.fromkeys([*(str(folder) for folder in folders), str(path.absolute().parent)]))
    index, seen, images = _Index(folders or [path.absolute().parent], extra), set(), []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        line = os.fsdecode(raw)
        if not line.strip():
            continue
        place = Place(str(path), number)
        try:
            found = _find(line, bases, index, place, extra)
        except DataError as error:
            report.refuse(error)
            continue
        if found in seen:
            report.add(kinds.REPEATED_ENTRY, place)
            continue
        seen.add(found)
        images.append(found)
    if not images:
        raise DataError("empty-split", Place(str(path)), "the list names no image")
    return images


def _find(line: str, bases: list[str], index: _Index, where: Place, extra: Collection[str]) -> str:
    for text in dict.fromkeys((line, line.strip())):  # as it stands first: a name may begin with a space
        for base in bases:
            candidate = os.path.normpath(os.path.join(base, text))  # noqa: PTH118  # hot, and keeps odd names
            stored = stored_file(candidate, extra)
            if stored is not None:
                return stored
    name = line.strip()
    if "/" not in name:
        hits = index.find(name)
        if len(hits) == 1:
            return hits[0]
        if hits:
            text = f"{excerpt(name)} fits {len(hits)} images; write its folder too"
            raise DataError("ambiguous-name", where, text)
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError("missing-image", where, f"{excerpt(name)} is not the name of an image that exists")
    tried = ", ".join(show(os.path.normpath(os.path.join(base, name))) for base in bases[:3])  # noqa: PTH118  # as above
    raise DataError("missing-image", where, f"no image {excerpt(name)}; tried {tried}")
