"""Every label of a split in flat arrays: what all dataset formats are read into."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from yolo.data.packed import PackedStrings
from yolo.data.spill import Spilled, is_spawning, spill
from yolo.data.types import Targets


@dataclass(frozen=True)
class ImageTruth:
    """What an evaluator compares the detections of one image with; crowd regions included.

    Attributes:
        boxes: float32 ``[N, 4]`` xyxy, pixels of the upright file.
        labels: int64 ``[N]`` class indices.
        crowd: bool ``[N]``, true for a region to ignore.
        area: float32 ``[N]`` square pixels, as the data set states it.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelTable:
    """The labels of one split. n images, m boxes.

    Worker processes share it: forked ones by themselves, spawned ones through a temporary file that all of them map.

    Attributes:
        class_names: name of each class index.
        category_ids: id of each class index in the data set's own numbering.
        paths: absolute path of each image.
        sizes: int32 ``[n, 2]`` width and height of the upright picture, pixels.
        offsets: int64 ``[n + 1]``; image i owns boxes ``offsets[i]:offsets[i + 1]``.
        boxes: float32 ``[m, 4]`` xyxy, pixels of the upright file.
        labels: int64 ``[m]`` class indices.
        crowd: bool ``[m]``, regions that are ignored, not trained on.
        area: float32 ``[m]`` square pixels, as the data set states it (COCO: of the mask).
        image_ids: int64 ``[n]``, unique; the data set's own ids where those are integers.
        foreign_ids: the data set's own image ids as json text where they are not 64-bit integers, else None.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    paths: PackedStrings
    sizes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float32]
    image_ids: NDArray[np.int64]
    foreign_ids: PackedStrings | None = None
    _spilled: ClassVar[Spilled | None]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_spilled", None)
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        if not is_spawning():
            return _rebuild, (plain, None)
        arrays = {name: plain.pop(name) for name in list(plain) if isinstance(plain[name], np.ndarray)}
        for name in ("paths", "foreign_ids"):
            packed = plain.pop(name)
            if packed is not None:
                arrays |= {f"{name}.data": packed.data, f"{name}.offsets": packed.offsets}
        if self._spilled is None:
            object.__setattr__(self, "_spilled", spill(arrays, self))
        return _rebuild, (plain, self._spilled)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def num_classes(self) -> int:
        """Number of classes, those without a box included."""
        return len(self.class_names)

    @cached_property
    def _plain(self) -> bool:
        """True when no box is a crowd and none reaches over its image, so that targets are plain slices."""
        if self.crowd.any():
            return False
        limit = np.repeat(self.sizes, np.diff(self.offsets), axis=0)
        return bool((self.boxes[:, :2] >= 0).all() and (self.boxes[:, 2:] <= limit).all())

    def path(self, index: int) -> str:
        """Absolute path of an image."""
        return self.paths[index]

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of an image, pixels."""
        width, height = self.sizes[index]
        return int(width), int(height)

    def targets(self, index: int) -> Targets:
        """Boxes to train on, inside the image, without crowd regions. The arrays may be read-only views."""
        part = slice(self.offsets[index], self.offsets[index + 1])
        boxes, labels = self.boxes[part], self.labels[part]
        if self._plain:
            return Targets(boxes, labels)
        limit = np.tile(self.sizes[index], 2).astype(np.float32)
        keep = ~self.crowd[part]
        return Targets(np.clip(boxes, 0, limit)[keep], labels[keep])

    def truth(self, index: int) -> ImageTruth:
        """Everything that evaluation needs of one image, crowd regions included."""
        part = slice(self.offsets[index], self.offsets[index + 1])
        return ImageTruth(self.boxes[part], self.labels[part], self.crowd[part], self.area[part])

    def image_id(self, index: int) -> int | str:
        """The data set's own id of an image, for result files."""
        if self.foreign_ids is None:
            return int(self.image_ids[index])
        value: int | str = json.loads(self.foreign_ids[index])
        return value

    def select(self, index: NDArray[np.intp]) -> LabelTable:
        """Return a table of some of the images, in the given order."""
        index = np.asarray(index, np.intp)
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], counts)
        return replace(
            self,
            paths=self.paths.select(index),
            sizes=self.sizes[index],
            offsets=offsets,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            area=self.area[rows],
            image_ids=self.image_ids[index],
            foreign_ids=None if self.foreign_ids is None else self.foreign_ids.select(index),
        )

    def fingerprint(self) -> str:
        """sha256 of the contents, in hex. Moving the whole data set to another folder does not change it."""
        digest = hashlib.sha256(json.dumps([self.class_names, [str(i) for i in self.category_ids]]).encode())
        digest.update(self.paths.below_common_folder())
        for foreign in self.foreign_ids or ():
            digest.update(foreign.encode() + b"\0")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                digest.update(f"{item.name}{value.dtype}{value.shape}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()

    def coco_ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """Return the split in the json layout of COCO: what ``pycocotools.coco.COCO().dataset`` takes.

        Image ids are ``image_ids``, category ids are ``category_ids``, bbox is xywh in pixels of the upright file,
        annotations are numbered from 1 (the reference evaluator takes a match with id 0 for no match).
        """
        owner = np.repeat(self.image_ids, np.diff(self.offsets)).tolist()
        xywh = self.boxes.astype(np.float64)
        xywh[:, 2:] -= xywh[:, :2]  # exact in float64: x + width is the stored edge again
        columns = zip(owner, xywh.tolist(), self.labels.tolist(), self.crowd.tolist(), self.area.tolist(), strict=True)
        return {
            "images": [
                {"id": image_id, "width": width, "height": height, "file_name": path}
                for image_id, (width, height), path in zip(
                    self.image_ids.tolist(), self.sizes.tolist(), self.paths, strict=True
                )
            ],
            "categories": [
                {"id": number, "name": name} for number, name in zip(self.category_ids, self.class_names, strict=True)
            ],
            "annotations": [
                {
                    "id": number,
                    "image_id": image,
                    "category_id": self.category_ids[label],
                    "bbox": bbox,
                    "area": area,
                    "iscrowd": int(crowd),
                }
                for number, (image, bbox, label, crowd, area) in enumerate(columns, start=1)
            ],
        }


def concatenated(tables: Sequence[LabelTable]) -> LabelTable:
    """Return one table of the images of several, which have the same classes.

    Image ids stay where they are different in all tables (those of COCO), else images are numbered anew.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    ids = np.concatenate([table.image_ids for table in tables])
    foreign = None
    if len(np.unique(ids)) < len(ids):
        ids = np.arange(len(ids), dtype=np.int64)
    if any(table.foreign_ids is not None for table in tables):
        foreign = PackedStrings.pack(json.dumps(table.image_id(i)) for table in tables for i in range(len(table)))
    counts = np.concatenate([np.diff(table.offsets) for table in tables])

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(table, name) for table in tables])

    return replace(
        first,
        paths=PackedStrings.pack(path for table in tables for path in table.paths),
        sizes=joined("sizes"),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=joined("boxes"),
        labels=joined("labels"),
        crowd=joined("crowd"),
        area=joined("area"),
        image_ids=ids,
        foreign_ids=foreign,
    )


def _rebuild(plain: dict[str, Any], spilled: Spilled | None) -> LabelTable:
    values = dict(plain)
    if spilled is not None:
        arrays = spilled.attach()
        for name in ("paths", "foreign_ids"):
            if f"{name}.data" in arrays:
                values[name] = PackedStrings(arrays.pop(f"{name}.data"), arrays.pop(f"{name}.offsets"))
        values.update(arrays)
    return LabelTable(**values)
