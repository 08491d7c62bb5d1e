"""Which images of a cache belong to a split, and where they would lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from yolo.core.errors import YoloError
from yolo.data.cache.index import CacheIndex
from yolo.data.formats.report import excerpt
from yolo.data.labels import LabelTable, concatenated
from yolo.data.packed import PackedStrings


def absolute_paths(paths: Iterable[str], root: Path) -> Iterator[str]:
    """Give the paths of a cache's images when its data set lies in ``root``, whether the files are there or not."""
    base = os.path.normpath(root)
    for path in paths:
        yield path if os.path.isabs(path) else os.path.join(base, path.replace("/", os.sep))  # noqa: PTH117, PTH118  # hot


def placed(table: LabelTable, root: Path) -> LabelTable:
    """Return a table of a cache with absolute paths."""
    return replace(table, paths=PackedStrings.pack(absolute_paths(table.paths, root)))


def listed_images(index: CacheIndex, listing: Path, root: Path, folders: Sequence[Path] = ()) -> LabelTable:
    """Return the images of a cache that a list file names, of whatever split, in the file's order.

    Args:
        index: of the cache.
        listing: one image a line: an absolute path, one relative to ``root``, a folder or the list file, or a bare
            name with or without its suffix.
        root: folder of the data set.
        folders: of images.

    Raises:
        YoloError: naming file and line when an image is not in the cache, or a bare name fits several.
    """
    everything = concatenated([placed(split.table, root) for split in index.splits.values()])
    positions: dict[str, int] = {}
    named: dict[str, list[int]] = {}
    for position, path in enumerate(everything.paths):
        if positions.setdefault(path, position) == position:
            name = Path(path).name
            for key in {name, Path(path).stem}:
                named.setdefault(key, []).append(position)
    bases = [*folders, root, listing.absolute().parent]
    chosen: dict[int, None] = {}
    for number, line in enumerate(_lines(listing), start=1):
        text = line.strip()
        if not text:
            continue
        found = [positions[path] for base in bases if (path := os.path.normpath(base / text)) in positions][:1]
        if not found and "/" not in text:
            found = named.get(text, [])
        if len(found) != 1:
            problem = f"fits {len(found)} images: write its folder too" if found else "is not in the cache"
            raise YoloError(f"{listing} line {number}: {excerpt(text)} {problem}")
        chosen[found[0]] = None
    if not chosen:
        raise YoloError(f"{listing}: the list names no image")
    return everything.select(np.array(list(chosen), np.intp))


def _lines(listing: Path) -> list[str]:
    try:
        return [os.fsdecode(raw) for raw in listing.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()]
    except OSError as error:
        raise YoloError(f"{listing} cannot be read: {error.strerror}") from error
