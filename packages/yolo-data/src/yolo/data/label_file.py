"""The file of a label cache: a table and what was told about it, with a checksum. Nothing in it can be executed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.core.decoders.contents import read_whole
from yolo.core.files import write_atomically
from yolo.data.formats.report import Told
from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings

_log = logging.getLogger("yolo.data")

#: Goes up with every change of the layout: a file of another one is replaced.
LAYOUT = 1
_MAGIC = b"yolo labels" + bytes([LAYOUT])
_CHECK = 32  # bytes of the checksum at the end
_ALIGN = 64
_LARGEST = 16 << 30
_STRINGS = ("paths", "foreign_ids")
_DTYPES = {
    "sizes": "<i4",
    "offsets": "<i8",
    "boxes": "<f4",
    "labels": "<i8",
    "crowd": "|b1",
    "area": "<f4",
    "image_ids": "<i8",
}


@dataclass(frozen=True)
class StoredLabels:
    """What a label cache holds.

    Attributes:
        inputs: digest of the files that the configuration leads to, and of the configuration itself.
        images: digest of the images that only the parsed labels name; empty where ``inputs`` covers them.
        table: the labels, as the parser gave them.
        told: what the parser warned of.
    """

    inputs: str
    images: str
    table: LabelTable
    told: Sequence[Told]


def write_labels(path: Path, stored: StoredLabels, *, root: str) -> None:
    """Write a label cache in one step: a reader, or a second writer, sees the old file or the new one.

    Paths below ``root`` are kept relative to it.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an older file is left as it was.
    """
    table = stored.table
    arrays: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(getattr(table, name), dtype) for name, dtype in _DTYPES.items()
    }
    arrays |= _packed("paths", _relative(table.paths, root))
    if table.foreign_ids is not None:
        arrays |= _packed("foreign_ids", table.foreign_ids)
    places, position = {}, 0
    for name, array in arrays.items():
        places[name] = [array.dtype.str, list(array.shape), position]
        position += -(-array.nbytes // _ALIGN) * _ALIGN
    head = json.dumps(
        {
            "inputs": stored.inputs,
            "images": stored.images,
            "class_names": table.class_names,
            "category_ids": table.category_ids,
            "told": stored.told,
            "arrays": places,
        }
    ).encode()
    head += b" " * (-(len(_MAGIC) + 8 + len(head)) % _ALIGN)
    parts = [_MAGIC, len(head).to_bytes(8, "little"), head]
    for array in arrays.values():
        parts += [array.tobytes(), bytes(-array.nbytes % _ALIGN)]
    content = b"".join(parts)
    write_atomically(path, content + hashlib.blake2b(content, digest_size=_CHECK).digest())


def read_labels_file(path: Path, *, root: str) -> StoredLabels | None:
    """Read a label cache; None when there is none, or none that can be used (a line in the log says so)."""
    try:
        data = read_whole(str(path), _LARGEST)
    except OSError:
        return None
    if data is None or not data.startswith(_MAGIC[:-1]):
        _log.info("%s is no label cache: the labels are read anew", path)
        return None
    if data[: len(_MAGIC)] != _MAGIC:
        return None  # of another version of yolo-data, which is nothing to worry about
    view = memoryview(data)
    if hashlib.blake2b(view[:-_CHECK], digest_size=_CHECK).digest() != data[-_CHECK:]:
        _log.info("%s is damaged: the labels are read anew", path)
        return None
    try:
        return _unpack(view[:-_CHECK], root)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):  # the checksum is right: it was made so
        _log.info("%s is no sound label cache: the labels are read anew", path)
        return None


def _unpack(view: memoryview, root: str) -> StoredLabels:
    start = len(_MAGIC) + 8
    length = int.from_bytes(view[len(_MAGIC) : start], "little")
    head = json.loads(bytes(view[start : start + length]))
    body = view[start + length :]
    arrays: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape, offset) in head["arrays"].items():
        if dtype not in ("<i4", "<i8", "<f4", "|b1", "|u1"):
            raise ValueError(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(body, dtype, count, offset).reshape(shape)
    strings = {
        name: PackedStrings(arrays.pop(f"{name}.data"), arrays.pop(f"{name}.offsets"))
        for name in _STRINGS
        if f"{name}.data" in arrays
    }
    known = {item.name for item in fields(LabelTable)}
    if not arrays.keys() == _DTYPES.keys() <= known:
        raise ValueError("arrays")
    table = LabelTable(
        class_names=tuple(head["class_names"]),
        category_ids=tuple(head["category_ids"]),
        paths=_absolute(strings["paths"], root),
        foreign_ids=strings.get("foreign_ids"),
        **arrays,
    )
    told = [Told(int(level), str(source), str(text)) for level, source, text in head["told"]]
    return StoredLabels(str(head["inputs"]), str(head["images"]), table, told)


def raw_paths(paths: PackedStrings) -> list[bytes]:
    """Return the strings as the bytes they are stored in: quicker than one at a time."""
    data, ends = paths.data.tobytes(), paths.offsets.tolist()
    return [data[ends[i] : ends[i + 1]] for i in range(len(ends) - 1)]


def _relative(paths: PackedStrings, root: str) -> PackedStrings:
    start = os.fsencode(root + os.sep)
    return _pack([path[len(start) :] if path.startswith(start) else path for path in raw_paths(paths)])


def _absolute(paths: PackedStrings, root: str) -> PackedStrings:
    start = os.fsencode(root + os.sep)
    return _pack([path if os.path.isabs(path) else start + path for path in raw_paths(paths)])  # noqa: PTH117  # hot


def _pack(items: list[bytes]) -> PackedStrings:
    offsets = np.zeros(len(items) + 1, np.int64)
    np.cumsum([len(item) for item in items], out=offsets[1:])
    return PackedStrings(np.frombuffer(b"".join(items), np.uint8), offsets)


def _packed(name: str, strings: PackedStrings) -> dict[str, NDArray[Any]]:
    return {
        f"{name}.data": np.ascontiguousarray(strings.data, "|u1"),
        f"{name}.offsets": np.ascontiguousarray(strings.offsets, "<i8"),
    }
