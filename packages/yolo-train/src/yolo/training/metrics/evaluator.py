"""Collect detections of a split and turn them into numbers, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.data.labels import LabelTable
from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.coco import CocoStats, coco_numbers
from yolo.training.metrics.flat import flatten_detections, flatten_truth
from yolo.training.metrics.operating import Counts
from yolo.training.metrics.record import as_record


@dataclass(frozen=True)
class Protocol:
    """How detections were made: no figure means anything without it.

    Attributes:
        confidence: smallest score that entered the evaluation.
        iou: overlap at which NMS removes a box.
        max_detections: most detections per image.
        size: width and height of the network's input, pixels.
        weights: ``ema`` or ``raw``.
    """

    confidence: float
    iou: float
    max_detections: int
    size: tuple[int, int]
    weights: str = "ema"

    def __str__(self) -> str:
        width, height = self.size
        return (
            f"conf {self.confidence:g}, NMS IoU {self.iou:g}, max {self.max_detections}, {width}x{height}, "
            f"{self.weights} weights"
        )


@dataclass(frozen=True)
class Detected:
    """Detections of one image: boxes ``[N, 4]`` xyxy in pixels of the original picture, scores, class indices."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """The outcome of an evaluation.

    Attributes:
        stats: COCO's twelve numbers.
        class_names: in label order.
        per_class: float64 ``[classes, 3]`` AP, AP50, AP75; NaN for a class without truth.
        counts: matches at ``operating_confidence`` and IoU 0.5.
        operating_confidence: threshold of precision, recall and F1.
        images: pictures evaluated.
        split_images: pictures in the split; more than ``images`` when validation was limited.
        protocol: how the detections were made.
        analysis: curves, confusions and errors; None in processes other than the first, which hold no detections.
    """

    stats: CocoStats
    class_names: tuple[str, ...]
    per_class: NDArray[np.float64]
    counts: Counts
    operating_confidence: float
    images: int
    split_images: int
    protocol: Protocol
    analysis: Analysis | None = field(default=None, repr=False, compare=False)

    def metrics(self) -> dict[str, float]:
        """Return the logged metrics, as ``val/mAP`` and so on."""
        precision, recall, f1 = self.counts.means()
        stats = self.stats
        named = {
            "mAP": stats.AP, "mAP50": stats.AP50, "mAP75": stats.AP75, "AR@100": stats.AR100,
            "precision": precision, "recall": recall, "f1": f1,
        }  # fmt: skip
        return {f"val/{name}": max(value, 0.0) for name, value in named.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data for a JSON file: see :func:`yolo.training.metrics.record.as_record`."""
        return as_record(self)


class Evaluator:
    """Holds the detections of a split until they are evaluated against its labels.

    Args:
        truth: the labels, crowds included.
    """

    def __init__(self, truth: LabelTable) -> None:
        self.truth = truth
        self._found: dict[int, Detected] = {}

    def __len__(self) -> int:
        return len(self._found)

    def update(self, indices: Sequence[int], found: Sequence[Detected]) -> None:
        """Add detections of images by their index in the split; an image that comes twice counts once."""
        self._found.update(zip((int(i) for i in indices), found, strict=True))

    @property
    def found(self) -> dict[int, Detected]:
        """The detections by index of the image; an image where nothing was found has an empty entry."""
        return self._found

    def coco_detections(self) -> list[dict[str, Any]]:
        """Return the detections in COCO's result format, in pixels of the original pictures."""
        records: list[dict[str, Any]] = []
        for index, found in sorted(self._found.items()):
            image_id = int(self.truth.image_ids[index])
            xywh = found.boxes.astype(np.float64)
            xywh[:, 2:] -= xywh[:, :2]
            for box, score, label in zip(xywh.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True):
                category = self.truth.category_ids[label]
                records.append({"image_id": image_id, "category_id": category, "bbox": box, "score": score})
        return records

    def compute(self, protocol: Protocol, *, operating_confidence: float = 0.25) -> Evaluation:
        """Evaluate the images that were looked at, also those without any detection.

        A limited validation is measured against the truth of its own images, not of the whole split.
        """
        seen = np.array(sorted(self._found), np.intp)
        table = self.truth.select(seen)
        analysis = Analysis(flatten_detections(self._found), flatten_truth(table), operating_confidence)
        result = coco_numbers(analysis.detections, analysis.truth, analysis.pairs, image_ids=table.image_ids)
        return Evaluation(
            stats=result.stats,
            class_names=table.class_names,
            per_class=result.per_class,
            counts=analysis.counts,
            operating_confidence=operating_confidence,
            images=len(table),
            split_images=len(self.truth),
            protocol=protocol,
            analysis=analysis,
        )
