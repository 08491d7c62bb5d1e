"""Evaluations that ``yolo validate`` has written, read again: detections and truth, without any network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yolo.core.errors import UsageError, YoloError
from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings
from yolo.training.metrics.evaluator import Detected, Evaluation, Evaluator, Protocol
from yolo.training.report.facts import text_in

_SUFFIX = "_metrics.json"


@dataclass(frozen=True, eq=False)
class StoredRun:
    """One evaluation.

    Attributes:
        path: of the metrics file.
        name: of the model.
        evaluation: computed again from detections and truth.
        table: of the evaluated images, by ascending id.
        metrics: the content of the metrics file.
    """

    path: Path
    name: str
    evaluation: Evaluation
    table: LabelTable
    metrics: Mapping[str, Any]

    @property
    def root(self) -> Path:
        """Folder of the data set, which relative names of images are below."""
        return Path(text_in(self.metrics, "data", "root") or ".")


def read_run(path: Path) -> StoredRun:
    """Read a metrics file with the detections and the truth that lie beside it.

    Raises:
        YoloError: a file is missing, damaged, or does not fit the others.
    """
    metrics = _read(path, dict, "metrics")
    name = path.name.removesuffix(_SUFFIX) if path.name.endswith(_SUFFIX) else path.stem
    with _Told(path, "metrics of 'yolo validate'"):
        protocol = _protocol(metrics["protocol"])
        operating = float(metrics["operating_confidence"])
    truth_path, found_path = _neighbour(path, name, metrics, "truth"), _neighbour(path, name, metrics, "detections")
    truth = _read(truth_path, dict, "truth")
    with _Told(truth_path, "a COCO ground truth"):
        table = read_truth(truth)
    if not len(table):
        raise YoloError(f"{truth_path} names no image: there is nothing to report on")
    records = _read(found_path, list, "detections")
    evaluator = Evaluator(table)
    with _Told(found_path, f"detections of the images in {truth_path.name}"):
        found = read_detections(records, table)
    evaluator.update(range(len(table)), found)
    evaluation = evaluator.compute(protocol, operating_confidence=operating)
    split = metrics.get("split_images")
    if isinstance(split, int):
        evaluation = replace(evaluation, split_images=split)
    return StoredRun(path, name, evaluation, table, metrics)


def read_truth(content: Mapping[str, Any]) -> LabelTable:
    """Return the table of a COCO ground truth with integer image ids; images by ascending id."""
    categories = [(int(c["id"]), str(c["name"])) for c in content["categories"]]
    label = {number: i for i, (number, _) in enumerate(categories)}
    images = sorted(content["images"], key=lambda image: int(image["id"]))
    row = {int(image["id"]): i for i, image in enumerate(images)}
    objects = sorted(content["annotations"], key=lambda item: row[int(item["image_id"])])
    owner = np.array([row[int(item["image_id"])] for item in objects], np.int64)
    boxes = np.array([item["bbox"] for item in objects], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    area = np.array([item["area"] for item in objects], np.float32)
    if not (np.isfinite(boxes).all() and np.isfinite(area).all()):
        raise ValueError("a number is not finite")
    return LabelTable(
        class_names=tuple(name for _, name in categories),
        category_ids=tuple(number for number, _ in categories),
        paths=PackedStrings.pack(str(image["file_name"]) for image in images),
        sizes=np.array([[image["width"], image["height"]] for image in images], np.int32).reshape(-1, 2),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(images)))]).astype(np.int64),
        boxes=boxes.astype(np.float32),
        labels=np.array([label[int(item["category_id"])] for item in objects], np.int64),
        crowd=np.array([bool(item.get("iscrowd", 0)) for item in objects], bool),
        area=area,
        image_ids=np.array(list(row), np.int64),
    )


def read_detections(records: list[Any], table: LabelTable) -> list[Detected]:
    """Return the detections of each image of a table from COCO's result format."""
    row = {int(number): i for i, number in enumerate(table.image_ids)}
    label = {number: i for i, number in enumerate(table.category_ids)}
    images = np.array([row[int(record["image_id"])] for record in records], np.int64)
    boxes = np.array([record["bbox"] for record in records], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([record["score"] for record in records], np.float32)
    labels = np.array([label[int(record["category_id"])] for record in records], np.int64)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError("a number is not finite")
    order = np.argsort(images, kind="stable")
    cuts = np.cumsum(np.bincount(images, minlength=len(table)))[:-1]
    parts = (np.split(values[order], cuts) for values in (boxes.astype(np.float32), scores, labels))
    return [Detected(*columns) for columns in zip(*parts, strict=True)]


def _protocol(stored: Mapping[str, Any]) -> Protocol:
    width, height = stored["size"]
    return Protocol(
        confidence=float(stored["confidence"]),
        iou=float(stored["iou"]),
        max_detections=int(stored["max_detections"]),
        size=(int(width), int(height)),
        weights=str(stored.get("weights", "raw")),
    )


def _neighbour(path: Path, name: str, metrics: Mapping[str, Any], kind: str) -> Path:
    """The file that the metrics name, else the one with the usual name; it lies in the same folder."""
    files = metrics.get("files")
    named = files.get(kind) if isinstance(files, Mapping) else None
    found = path.parent / (Path(str(named)).name if named else f"{name}_{kind}.json")
    if not found.is_file():
        raise UsageError(
            f"{path}: {found.name} is missing beside it; it holds the {kind} that a report is made of: "
            "keep the files of 'yolo validate' together, or validate again without --no-json"
        )
    return found


def _read(path: Path, kind: type, what: str) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except OSError as error:
        raise YoloError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise YoloError(f"{path} is not a JSON file") from None
    if not isinstance(content, kind):
        raise YoloError(f"{path} does not hold the {what} of 'yolo validate'")
    return content


class _Told:
    """Says of which file a number or key was missing or wrong."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError)):
            told = f"{type(error).__name__}: {error}"
            raise YoloError(f"{self.path} does not hold {self.what} ({told})") from error
