"""The index of a cache: everything but the pictures, in flat arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import lmdb
import numpy as np
from numpy.typing import NDArray

from yolo.data.cache.errors import DamagedRecordError
from yolo.data.cache.parts import SealedArrays, seal_arrays
from yolo.data.cache.pictures import DIGEST_SIZE
from yolo.data.cache.readers import damaged
from yolo.data.cache.seal import Seal
from yolo.data.cache.settings import CacheSettings
from yolo.data.cache.writer import Item, Writer
from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings

if TYPE_CHECKING:
    from yolo.data.cache.store import Head


class ConfidentialTable(LabelTable):
    """Labels that must not reach a disk in clear: spawned workers get them through memory only."""

    confidential: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class SplitIndex:
    """One split.

    Attributes:
        table: its labels; the paths are those of the index, of the same images.
        records: int32 ``[len(table)]``, number of each image's record.
    """

    table: LabelTable
    records: NDArray[np.int32]


@dataclass(frozen=True, eq=False, kw_only=True)
class CacheIndex:
    """Everything but the pictures. n records.

    Attributes:
        settings: what the cache was made with.
        root: folder that the paths are relative to, as it was when the cache was made.
        paths: of each record's image, relative to ``root`` with ``/`` where it lies inside, else absolute.
        checks: uint8 ``[n, check_size]``, of each sealed record, see :meth:`Seal.check`.
        sizes_stored: int64 ``[n]`` bytes of each sealed record.
        source_sizes: int64 ``[n]`` bytes of each source file.
        mtimes: int64 ``[n]`` nanoseconds.
        ctimes: int64 ``[n]`` nanoseconds.
        digests: uint8 ``[n, 16]``; see :class:`SourceFacts` for these four.
        splits: by name.
    """

    settings: CacheSettings
    root: str
    paths: PackedStrings
    checks: NDArray[np.uint8]
    sizes_stored: NDArray[np.int64]
    source_sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]
    ctimes: NDArray[np.int64]
    digests: NDArray[np.uint8]
    splits: Mapping[str, SplitIndex]

    def __len__(self) -> int:
        return len(self.checks)


# Type and further axes of each array of the index, and of each split's table.
_RECORDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "sizes_stored": ("<i8", ()),
    "source_sizes": ("<i8", ()),
    "mtimes": ("<i8", ()),
    "ctimes": ("<i8", ()),
    "digests": ("|u1", (DIGEST_SIZE,)),
}
_TABLE: dict[str, tuple[str, tuple[int, ...]]] = {
    "sizes": ("<i4", (2,)),
    "offsets": ("<i8", ()),
    "boxes": ("<f4", (4,)),
    "labels": ("<i8", ()),
    "crowd": ("|b1", ()),
    "area": ("<f4", ()),
    "image_ids": ("<i8", ()),
}


def write_index(writer: Writer, seal: Seal, index: CacheIndex) -> None:
    """Store an index in the place of the one that may be there, in one transaction.

    Args:
        writer: of the cache's database.
        seal: of the cache.
        index: to store. Only the records' paths are kept: those of the tables are the same.

    Raises:
        ValueError: the paths of a table are not those of its records.
        CacheError: it cannot be written.
    """
    for name, split in index.splits.items():
        expected = _paths_of(index.paths, split.records)
        same = np.array_equal(expected.data, split.table.paths.data)
        if not same or not np.array_equal(np.diff(expected.offsets), np.diff(split.table.paths.offsets)):
            raise ValueError(f"the paths of the split {name} are not those of its records")

    def make() -> Iterator[Item]:
        return seal_arrays(seal, _arrays(index), _description(index))

    writer.replace(b"index/", make)


def _description(index: CacheIndex) -> dict[str, Any]:
    splits = {
        name: {
            "class_names": list(split.table.class_names),
            "category_ids": list(split.table.category_ids),
            "foreign_ids": split.table.foreign_ids is not None,
        }
        for name, split in index.splits.items()
    }
    return {"records": len(index), "root": index.root, "settings": index.settings.as_dict(), "splits": splits}


def _arrays(index: CacheIndex) -> dict[str, NDArray[Any]]:
    arrays = {"paths.data": index.paths.data, "paths.offsets": index.paths.offsets.astype("<i8", copy=False)}
    arrays["checks"] = index.checks
    for name, (dtype, _) in _RECORDS.items():
        arrays[name] = getattr(index, name).astype(dtype, copy=False)
    for split, part in index.splits.items():
        arrays[f"{split}.records"] = part.records.astype("<i4", copy=False)
        for name, (dtype, _) in _TABLE.items():
            arrays[f"{split}.{name}"] = getattr(part.table, name).astype(dtype, copy=False)
        if part.table.foreign_ids is not None:
            arrays[f"{split}.foreign_ids.data"] = part.table.foreign_ids.data
            arrays[f"{split}.foreign_ids.offsets"] = part.table.foreign_ids.offsets.astype("<i8", copy=False)
    return arrays


def read_index(env: lmdb.Environment, seal: Seal, head: Head) -> CacheIndex:
    """Read the whole index.

    Args:
        env: of the cache's database.
        seal: of the cache.
        head: of the cache.

    Raises:
        DamagedCacheError: it is not what was written, or not all of one generation.
    """
    folder = Path(env.path()).parent
    try:
        with env.begin(buffers=True) as txn:
            return _Reading(SealedArrays(txn, seal), seal, head).index()
    except DamagedRecordError as error:
        raise damaged(folder, f"its index cannot be read ({error})") from error
    except lmdb.Error as error:
        raise damaged(folder, str(error)) from error


def read_path(env: lmdb.Environment, seal: Seal, record: int) -> str | None:
    """Return the path of a record's image for a message, None when it cannot be told."""
    try:
        with env.begin(buffers=True) as txn:
            return _strings(SealedArrays(txn, seal), "paths")[record]
    except (DamagedRecordError, IndexError, lmdb.Error):
        return None


class _Reading:
    """From arrays to an index. The arrays of a plain cache may be anybody's, so what they say is checked."""

    def __init__(self, arrays: SealedArrays, seal: Seal, head: Head) -> None:
        self._arrays = arrays
        self._seal = seal
        self._head = head

    def index(self) -> CacheIndex:
        described = self._arrays.description
        try:
            settings = CacheSettings.from_dict(described["settings"])
            root, records = str(described["root"]), int(described["records"])
            splits = {str(name): dict(facts) for name, facts in described["splits"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedRecordError("its description is none") from error
        _require(settings.encrypted == self._head.encrypted and records == self._head.records, "the head's facts")
        paths = _strings(self._arrays, "paths")
        checks = self._array("checks", "|u1", (self._seal.check_size,))
        facts = {name: self._array(name, *kind) for name, kind in _RECORDS.items()}
        lengths = [len(paths), len(checks), *(len(fact) for fact in facts.values())]
        _require(set(lengths) == {records}, "the number of records")
        index = CacheIndex(
            settings=settings,
            root=root,
            paths=paths,
            checks=checks,
            splits={name: self._split(name, paths, described) for name, described in splits.items()},
            **facts,
        )
        self._arrays.finish()
        return index

    def _split(self, name: str, paths: PackedStrings, facts: Mapping[str, Any]) -> SplitIndex:
        records = self._array(f"{name}.records", "<i4")
        _require(not len(records) or (records.min() >= 0 and records.max() < len(paths)), f"the records of {name}")
        values = {key: self._array(f"{name}.{key}", *kind) for key, kind in _TABLE.items()}
        images, boxes = len(records), len(values["boxes"])
        class_names, category_ids = _texts(facts.get("class_names")), _numbers(facts.get("category_ids"))
        _require(len(class_names) == len(category_ids), f"the classes of {name}")
        _require(all(len(values[key]) == images for key in ("sizes", "image_ids")), f"the images of {name}")
        _require(all(len(values[key]) == boxes for key in ("labels", "crowd", "area")), f"the boxes of {name}")
        _require(len(values["offsets"]) == images + 1 and _ascending(values["offsets"], boxes), f"the boxes of {name}")
        if images:
            _require(int(values["sizes"].min()) > 0, f"the sizes of {name}")
        if boxes:
            inside = values["labels"].min() >= 0 and values["labels"].max() < len(class_names)
            _require(bool(inside) and int(values["crowd"].view(np.uint8).max()) < 2, f"the labels of {name}")
            _require(all(np.isfinite(values[key]).all() for key in ("boxes", "area")), f"the boxes of {name}")
        foreign = _strings(self._arrays, f"{name}.foreign_ids") if facts.get("foreign_ids") else None
        _require(foreign is None or len(foreign) == images, f"the images of {name}")
        kind = ConfidentialTable if self._head.encrypted else LabelTable
        table = kind(
            class_names=class_names,
            category_ids=category_ids,
            paths=_paths_of(paths, records),
            foreign_ids=foreign,
            **values,
        )
        return SplitIndex(table, records)

    def _array(self, name: str, dtype: str, axes: tuple[int, ...] = ()) -> NDArray[Any]:
        flat = self._arrays.read(name, dtype)
        _require(len(flat) % max(1, int(np.prod(axes))) == 0, name)
        return flat.reshape(-1, *axes)


def _strings(arrays: SealedArrays, name: str) -> PackedStrings:
    strings = PackedStrings(arrays.read(f"{name}.data", "|u1"), arrays.read(f"{name}.offsets", "<i8"))
    _require(len(strings.offsets) > 0 and _ascending(strings.offsets, len(strings.data)), name)
    return strings


def _paths_of(paths: PackedStrings, records: NDArray[np.int32]) -> PackedStrings:
    """The paths of some records: without a copy of the text where they stand one behind the other."""
    if not len(records):
        return PackedStrings.pack(())
    first, last = int(records[0]), int(records[-1])
    if last - first + 1 == len(records) and (np.diff(records) == 1).all():
        offsets = paths.offsets[first : last + 2]
        return PackedStrings(paths.data[offsets[0] : offsets[-1]], offsets - offsets[0] if offsets[0] else offsets)
    return paths.select(records.astype(np.intp))


def _ascending(offsets: NDArray[np.int64], end: int) -> bool:
    return bool(offsets[0] == 0 and offsets[-1] == end and (np.diff(offsets) >= 0).all())


def _texts(value: object) -> tuple[str, ...]:
    _require(isinstance(value, list) and all(isinstance(text, str) for text in value), "the class names")
    return tuple(value)  # type: ignore[arg-type]  # just looked at


def _numbers(value: object) -> tuple[int, ...]:
    _require(isinstance(value, list) and all(type(number) is int for number in value), "the category ids")
    return tuple(value)  # type: ignore[arg-type]  # just looked at


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise DamagedRecordError(f"{what} in it cannot be what was written")
