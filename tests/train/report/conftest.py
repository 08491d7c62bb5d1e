"""Runs without a network: objects that were drawn by lot, and detections that miss them by more or less."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from yolo.data.labels import LabelTable
from yolo.data.loaders.base import ImageLoader
from yolo.data.packed import PackedStrings
from yolo.training.metrics import Detected, Evaluation, Evaluator, Protocol

NAMES = ("cat", "dog", "</script><img src=x onerror=alert(1)>", 'bird & "bee"')
SIZE = (160, 120)


class Noise(ImageLoader):
    """Gives noise, of which a JPEG is as large as it can be, whatever the path."""

    def __init__(self, size: tuple[int, int] = SIZE) -> None:
        self.size_of_all = size

    def __call__(self, path: str) -> np.ndarray:
        width, height = self.size_of_all
        seed = np.frombuffer(path.encode()[-8:], np.uint8)
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Run:
    """An evaluation with what it was made from."""

    table: LabelTable
    evaluator: Evaluator
    evaluation: Evaluation

    def store(self, folder: Path, name: str, **more: object) -> Path:
        """Write the three files of ``yolo validate``."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {kind: f"{name}_{kind}.json" for kind in ("detections", "truth")}
        metrics = self.evaluation.as_dict() | {"files": files} | more
        (folder / f"{name}_metrics.json").write_text(json.dumps(metrics))
        (folder / files["truth"]).write_text(json.dumps(self.table.coco_ground_truth()))
        (folder / files["detections"]).write_text(json.dumps(self.evaluator.coco_detections()))
        return folder / f"{name}_metrics.json"


def draw_table(
    images: int,
    names: Sequence[str],
    *,
    seed: int = 0,
    most: int = 6,
    crowds: bool = True,
    size: tuple[int, int] = SIZE,
) -> LabelTable:
    """Draw objects by lot; the last class has none."""
    random = np.random.default_rng(seed)
    counts = random.integers(0, most + 1, images)
    total = int(counts.sum())
    corner = random.random((total, 2)) * np.array(size) * 0.6
    boxes = np.concatenate([corner, corner + 6 + random.random((total, 2)) * np.array(size) * 0.35], axis=1)
    return LabelTable(
        class_names=tuple(names),
        category_ids=tuple(3 * i + 1 for i in range(len(names))),
        paths=PackedStrings.pack(f"/data/images/<b>{i}</b>.jpg" for i in range(images)),
        sizes=np.tile(np.array(size, np.int32), (images, 1)),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes.astype(np.float32),
        labels=random.integers(0, len(names) - 1, total),
        crowd=(random.random(total) < 0.05) & crowds,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float32),
        image_ids=np.arange(images, dtype=np.int64) * 2 + 5,
    )


def detect_badly(table: LabelTable, *, seed: int = 1, jitter: float = 0.06, extra: float = 3.0) -> list[Detected]:
    """Detect most objects more or less well, and some that are not there."""
    random, found = np.random.default_rng(seed), []
    classes, size = len(table.class_names), np.array(SIZE)
    for i in range(len(table)):
        truth = table.truth(i)
        kept = random.random(len(truth.boxes)) > 0.15
        boxes, labels = truth.boxes[kept].astype(np.float64), truth.labels[kept].copy()
        boxes += random.normal(0, jitter, boxes.shape) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        wrong = random.random(len(labels)) < 0.1
        labels[wrong] = random.integers(0, classes, wrong.sum())
        count = random.poisson(extra)
        corner = random.random((count, 2)) * size * 0.8
        boxes = np.concatenate([boxes, np.concatenate([corner, corner + 5 + random.random((count, 2)) * 25], axis=1)])
        scores = np.concatenate([random.beta(5, 2, kept.sum()), random.beta(1.5, 5, count)])
        labels = np.concatenate([labels, random.integers(0, classes, count)])
        solid = (boxes[:, 2:] - boxes[:, :2] > 1).all(axis=1)
        found.append(Detected(boxes[solid].astype(np.float32), scores[solid].astype(np.float32), labels[solid]))
    return found


def evaluate(table: LabelTable, found: Sequence[Detected], *, confidence: float = 0.25, iou: float = 0.65) -> Run:
    evaluator = Evaluator(table)
    evaluator.update(range(len(table)), found)
    protocol = Protocol(0.001, iou, 300, (640, 480))
    return Run(table, evaluator, evaluator.compute(protocol, operating_confidence=confidence))


@pytest.fixture(scope="session")
def make_table() -> Callable[..., LabelTable]:
    return draw_table


@pytest.fixture(scope="session")
def make_found() -> Callable[..., list[Detected]]:
    return detect_badly


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    return evaluate


@pytest.fixture(scope="session")
def noise() -> type[Noise]:
    return Noise


@pytest.fixture(scope="session")
def run() -> Run:
    """Forty images of four classes, of which one has no object, and one a name that would like to be a script."""
    table = draw_table(40, NAMES)
    return evaluate(table, detect_badly(table))
