"""Detections and truth of a split as flat arrays: what every analysis works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolo.data.labels import LabelTable

if TYPE_CHECKING:
    from yolo.training.metrics.evaluator import Detected

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Detections:
    """N detections, in ascending order of their image.

    Attributes:
        image: int64 ``[N]`` row of the image among the evaluated ones.
        boxes: float64 ``[N, 4]`` xyxy in pixels of the original picture.
        scores: float64 ``[N]``.
        labels: int64 ``[N]`` class indices.
    """

    image: Indices
    boxes: Floats
    scores: Floats
    labels: Indices

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Truth:
    """M objects, in ascending order of their image.

    Attributes:
        image: int64 ``[M]`` row of the image among the evaluated ones.
        boxes: float64 ``[M, 4]`` xyxy in pixels of the original picture.
        labels: int64 ``[M]`` class indices.
        crowd: bool ``[M]``, regions that count neither way.
        area: float64 ``[M]`` square pixels, as the data set states it.
        images: number of evaluated images, those without an object included.
        class_names: in label order.
    """

    image: Indices
    boxes: Floats
    labels: Indices
    crowd: NDArray[np.bool_]
    area: Floats
    images: int
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def per_class(self) -> Indices:
        """Objects of each class that are not crowds, int64 ``[classes]``."""
        return np.bincount(self.labels[~self.crowd], minlength=len(self.class_names))


def flatten_truth(table: LabelTable) -> Truth:
    """Return the labels of a table; its images become rows 0, 1, 2, ..."""
    return Truth(
        image=np.repeat(np.arange(len(table)), np.diff(table.offsets)),
        boxes=table.boxes.astype(np.float64),
        labels=table.labels.astype(np.int64),
        crowd=table.crowd,
        area=table.area.astype(np.float64),
        images=len(table),
        class_names=tuple(table.class_names),
    )


def flatten_detections(found: Mapping[int, Detected]) -> Detections:
    """Return the detections of images in ascending order of their keys, which become rows 0, 1, 2, ..."""
    entries = [found[key] for key in sorted(found)]
    counts = [len(entry.scores) for entry in entries]
    return Detections(
        image=np.repeat(np.arange(len(entries)), counts),
        boxes=np.concatenate([np.empty((0, 4)), *(entry.boxes for entry in entries)], dtype=np.float64),
        scores=np.concatenate([np.empty(0), *(entry.scores for entry in entries)], dtype=np.float64),
        labels=np.concatenate([np.empty(0, np.int64), *(entry.labels for entry in entries)]),
    )
