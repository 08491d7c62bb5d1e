"""Finding the pictures of an evaluation where they are now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath

from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings


def relocated(table: LabelTable, *, root: Path, folder: Path | None = None) -> LabelTable:
    """Return the table with the paths of its images where they are.

    With a folder an image is looked for below it, by as much of its path as is found there: ``a/b/c.jpg``, ``b/c.jpg``,
    then ``c.jpg``.

    Args:
        table: of the images, with paths as the truth file has them.
        root: of the data set, which relative paths are below.
        folder: where the images were moved to.
    """
    return replace(table, paths=PackedStrings.pack(_found(path, root, folder) for path in table.paths))


def _found(path: str, root: Path, folder: Path | None) -> str:
    if folder is None:
        return str(root / path)
    parts = [part for part in PurePath(path).parts if part not in ("/", "..", ".")]
    for start in range(len(parts)):
        candidate = folder.joinpath(*parts[start:])
        if candidate.is_file():
            return str(candidate)
    return str(root / path)
