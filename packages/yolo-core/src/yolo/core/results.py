"""What a prediction returns: :class:`Detections`. Importable without torch."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class DetectionRecord(TypedDict):
    """One detection as plain data, as it stands in a JSON file."""

    label: int
    name: str
    score: float
    box: list[float]


class ImageRecord(TypedDict):
    """All detections of one image as plain data."""

    image: str | None
    width: int
    height: int
    detections: list[DetectionRecord]


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The objects found in one image, best first.

    Attributes:
        boxes: float32 ``[N, 4]`` xyxy in pixels of the original, upright image; pixel i covers ``[i, i + 1)``; clipped
            to the image.
        scores: float32 ``[N]``, 0..1, descending.
        labels: int64 ``[N]`` class indices.
        names: the name of every class the network knows, by index.
        size: width and height of the original image, pixels.
        path: the file it was read from, if there was one.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    size: tuple[int, int]
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        where = f"{str(self.path)!r}, " if self.path is not None else ""
        return f"Detections({where}{self.size[0]}x{self.size[1]}: {self.summary()})"

    def name_of(self, label: int) -> str:
        """Return the name of a class; a class without a name is called by its number."""
        return self.names[label] if 0 <= label < len(self.names) else str(label)

    def summary(self) -> str:
        """Say in a few words what was found, e.g. ``"12 RBC, 1 WBC"``, most frequent class first."""
        counts = Counter(self.labels.tolist())
        text = ", ".join(f"{count} {self.name_of(label)}" for label, count in counts.most_common())
        return text or "nothing found"

    def select(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Detections:
        """Return the detections that a mask or an index array picks, e.g. ``found.select(found.scores > 0.5)``."""
        return Detections(
            self.boxes[keep], self.scores[keep], self.labels[keep], self.names, size=self.size, path=self.path
        )

    def to_records(self) -> list[DetectionRecord]:
        """Return one plain dictionary per detection; coordinates rounded to 1/100 pixel, scores to 5 digits."""
        return [
            {"label": label, "name": self.name_of(label), "score": round(score, 5), "box": [round(v, 2) for v in box]}
            for label, score, box in zip(self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        ]

    def to_dict(self, *, image: str | None = None) -> ImageRecord:
        """Return everything as plain data; ``image`` replaces the path."""
        name = image if image is not None else (str(self.path) if self.path is not None else None)
        return {"image": name, "width": self.size[0], "height": self.size[1], "detections": self.to_records()}

    def to_json(self, *, indent: int | None = None) -> str:
        """Return :meth:`to_dict` as ASCII JSON text, whatever characters a file name holds."""
        return json.dumps(self.to_dict(), indent=indent)
