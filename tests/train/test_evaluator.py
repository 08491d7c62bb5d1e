"""A figure is about the images that were looked at."""

from pathlib import Path

import numpy as np
import pytest

from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.training.metrics import Detected, Evaluator, Protocol


@pytest.mark.parametrize("seen", [[0, 1, 2, 3], [0, 2], [1]])
def test_perfect_detections_on_part_of_the_split_are_perfect(seen: list[int], tiny_data: Path) -> None:
    """limit_val_batches, and one process of several."""
    table = load_labels(DataConfig(root=str(tiny_data)), "val")
    evaluator = Evaluator(table)
    for index in seen:
        targets = table.targets(index)
        scores = np.ones(len(targets), np.float32)
        evaluator.update([index], [Detected(np.asarray(targets.boxes), scores, np.asarray(targets.labels))])
    evaluation = evaluator.compute(Protocol(0.001, 0.65, 300, (64, 64)))
    assert evaluation.images == len(seen)
    assert evaluation.metrics()["val/mAP"] == pytest.approx(1.0)
    assert evaluation.metrics()["val/recall"] == pytest.approx(1.0)
