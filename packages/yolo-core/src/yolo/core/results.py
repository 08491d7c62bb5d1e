"""What a prediction returns: :class:`Detections`. Importable without torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError


class DetectionRecord(TypedDict):
    """One detection as plain data, as it stands in a JSON file."""

    label: int
    name: str
    score: float
    box: list[float]


class CocoRecord(TypedDict):
    """One detection in COCO's result format."""

    image_id: int | str
    category_id: int
    bbox: list[float]
    score: float


class ImageRecord(TypedDict):
    """All detections of one image as plain data."""

    image: str | None
    frame: int | None
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
        source: the file, address or camera it was read from, as text.
        frame: number of the frame in a video or stream, from 0.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    size: tuple[int, int]
    path: Path | None = None
    source: str | None = None
    frame: int | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        name = self.source if self.path is None else str(self.path)
        where = "" if name is None else f"{name!r}, "
        where += "" if self.frame is None else f"frame {self.frame}, "
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
        return replace(self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep])

    def to_records(self) -> list[DetectionRecord]:
        """Return one plain dictionary per detection; coordinates rounded to 1/100 pixel, scores to 5 digits."""
        return [
            {"label": label, "name": self.name_of(label), "score": round(score, 5), "box": [round(v, 2) for v in box]}
            for label, score, box in zip(self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        ]

    def to_dict(self, *, image: str | None = None) -> ImageRecord:
        """Return everything as plain data; ``image`` replaces the path."""
        own = self.source if self.path is None else str(self.path)
        name = own if image is None else image
        width, height = self.size
        return {"image": name, "frame": self.frame, "width": width, "height": height, "detections": self.to_records()}

    def to_json(self, *, indent: int | None = None) -> str:
        """Return :meth:`to_dict` as ASCII JSON text, whatever characters a file name holds."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_coco(self, image_id: int | str, *, category_ids: Sequence[int] | None = None) -> list[CocoRecord]:
        """Return the detections in COCO's result format, ``bbox`` as x, y, width, height in pixels.

        Args:
            image_id: of this image in the data set.
            category_ids: of each class; default: the class index.
        """
        xywh = self.boxes.astype(np.float64)
        xywh[:, 2:] -= xywh[:, :2]
        rows = zip(self.labels.tolist(), xywh.tolist(), self.scores.tolist(), strict=True)
        return [
            {
                "image_id": image_id,
                "category_id": label if category_ids is None else category_ids[label],
                "bbox": [round(value, 3) for value in box],
                "score": round(score, 5),
            }
            for label, box, score in rows
        ]

    def to_supervision(self) -> Any:
        """Return a ``supervision.Detections``, class names as its data ``class_name``.

        Raises:
            YoloError: the package supervision is not installed.
        """
        try:
            import supervision  # an optional package
        except ImportError as error:
            raise YoloError("to_supervision() needs supervision: pip install 'yolo-core[supervision]'") from error
        return supervision.Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.astype(int),
            data={"class_name": np.array([self.name_of(label) for label in self.labels.tolist()], dtype=str)},
        )

    def plot(self, image: NDArray[np.uint8] | None = None, *, show_scores: bool = True) -> NDArray[np.uint8]:
        """Draw the detections on a copy of a picture.

        Args:
            image: uint8 ``[H, W, 3]`` RGB of ``size``; default: ``path`` is read again.
            show_scores: write scores beside class names.

        Returns:
            uint8 ``[H, W, 3]`` RGB.

        Raises:
            YoloError: no picture is given and there is no file of it, or it has another size.
        """
        from yolo.core.drawing import draw_detections
        from yolo.core.images import read_image

        if image is None:
            if self.path is None or self.frame is not None:
                what = "a picture in memory" if self.source is None else "a frame or an address"
                raise YoloError(f"these detections were made from {what}, which is not kept; give it: plot(image)")
            image = read_image(self.path)
        if image.shape[:2] != (self.size[1], self.size[0]):
            raise YoloError(f"the detections are of a picture of {self.size[0]}x{self.size[1]}, not of {image.shape}")
        return draw_detections(image, self, show_scores=show_scores)
