"""Which pictures a repaired copy holds, and under which names."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo.data.encryption.names import image_stem


@dataclass(frozen=True)
class Copy:
    """One picture to copy.

    Attributes:
        source: path of the file.
        target: path of the copy.
        boxes: of the picture in the copy.
    """

    source: str
    target: Path
    boxes: int


class Names:
    """Gives pictures their places below a folder: as below their own folder, each with its own label file.

    Args:
        folders: that pictures lie in.
        extra: more suffixes that are images (``ImageLoader.extra_suffixes``).
    """

    def __init__(self, folders: Sequence[Path], extra: Collection[str]) -> None:
        self._folders = [f"{folder}{os.sep}" for folder in folders]
        self._extra = extra
        self._taken: set[str] = set()

    def place(self, path: str) -> str:
        """Return the relative path of a picture; a number is added where another one has that label file."""
        folder = next((folder for folder in self._folders if path.startswith(folder)), None)
        name = path[len(folder) :] if folder else os.path.basename(path)  # noqa: PTH119  # keeps odd names
        stem = image_stem(name, self._extra)
        suffix, number, unique = name[len(stem) :], 1, stem
        while unique.casefold() in self._taken:
            number += 1
            unique = f"{stem}_{number}"
        self._taken.add(unique.casefold())
        return unique + suffix
