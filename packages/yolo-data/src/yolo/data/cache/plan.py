"""Which pictures a cache will hold, and in what form."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.core.letterbox import letterbox, letterbox_geometry
from yolo.data.cache.settings import VERSION, CacheSettings
from yolo.data.labels import LabelTable
from yolo.data.loaders.base import Pixels
from yolo.data.packed import PackedStrings


@dataclass(frozen=True)
class Plan:
    """The records of a cache.

    Attributes:
        settings: what they are made with.
        sources: absolute path of each record's image.
        names: the paths that are stored, see :func:`stored_name`; as many.
        records: for each split, int32, the record of each image of its table.
    """

    settings: CacheSettings
    sources: tuple[str, ...]
    names: tuple[str, ...]
    records: Mapping[str, NDArray[np.int32]]

    @classmethod
    def of(cls, settings: CacheSettings, tables: Mapping[str, LabelTable], root: Path) -> Plan:
        """Plan a record for every image of the tables, one for an image that stands in several."""
        numbers: dict[str, int] = {}
        records = {
            split: np.array([numbers.setdefault(path, len(numbers)) for path in table.paths], np.int32)
            for split, table in tables.items()
        }
        sources = tuple(numbers)
        return cls(settings, sources, tuple(stored_names(sources, root)), records)

    def __len__(self) -> int:
        return len(self.sources)

    def as_bytes(self) -> bytes:
        """Return what tells this plan from every other one: records made for the one are of no use to the other."""
        digest = hashlib.blake2b(digest_size=32)
        for name in self.names:
            digest.update(os.fsencode(name) + b"\0")
        value = {"version": VERSION, **self.settings.as_dict(), "records": len(self), "paths": digest.hexdigest()}
        return json.dumps(value, sort_keys=True).encode()


def stored_names(paths: tuple[str, ...] | list[str], root: Path) -> list[str]:
    """Return the paths as a cache holds them: relative to the data set's folder with ``/``, absolute outside it."""
    start = os.path.join(os.path.abspath(root), "")  # noqa: PTH100, PTH118  # hot
    length = len(start)
    names = [path[length:] if path.startswith(start) else path for path in paths]
    return names if os.sep == "/" else [name.replace(os.sep, "/") for name in names]


def shrink(image: Pixels, size: tuple[int, int] | None) -> Pixels:
    """Return a picture as it is stored: no larger than a letterbox of ``size`` (width, height) would show it.

    It is the letterbox's own content without the border, so that the letterbox of the result is that of the picture,
    to the pixel. A picture that the letterbox would enlarge stays as it is.
    """
    if size is None:
        return image
    height, width = image.shape[:2]
    content = letterbox_geometry((width, height), size).content
    if content[0] >= width and content[1] >= height:
        return image
    canvas, geometry = letterbox(image, size)
    left, top = geometry.offset
    return np.ascontiguousarray(canvas[top : top + content[1], left : left + content[0]])


def relative_table(table: LabelTable, root: Path) -> LabelTable:
    """Return a table whose paths are those that a cache holds."""
    return replace(table, paths=PackedStrings.pack(stored_names(list(table.paths), root)))
