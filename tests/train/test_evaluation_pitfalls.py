"""What went wrong in evaluations before: each test names the behaviour that has to stay."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo.core.decode import Decoded
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.types import Batch
from yolo.training.metrics import Detected, Evaluation, Evaluator, Protocol
from yolo.training.metrics.detect import select
from yolo.training.trainer_cli import make_cli

PROTOCOL = Protocol(0.001, 0.65, 300, (96, 96))
A, FAR = (0, 0, 100, 100), (300, 300, 400, 400)


def test_ap_of_a_class_is_over_all_overlaps_and_not_ap50(evaluated: Callable[..., Evaluation]) -> None:
    """A box with IoU 0.72 is right at 0.50, 0.55, 0.60, 0.65 and 0.70: half of the overlaps."""
    found = evaluated(["cat"], [([(0, A)], [(0, 0.9, (0, 0, 100, 72))])])
    assert found.per_class[0] == pytest.approx([0.5, 1.0, 0.0])
    assert found.metrics()["val/mAP"] == pytest.approx(0.5)
    assert found.as_dict()["per_class"]["cat"]["AP"] == pytest.approx(0.5)


def test_means_are_over_classes_with_truth(evaluated: Callable[..., Evaluation]) -> None:
    names = [f"class {i}" for i in range(80)]
    found = evaluated(names, [([(3, A)], [(3, 0.9, A), (7, 0.8, FAR)])])
    metrics = found.metrics()
    assert (metrics["val/precision"], metrics["val/recall"], metrics["val/f1"]) == (1, 1, 1)
    assert metrics["val/mAP"] == pytest.approx(1.0)
    assert np.isnan(found.per_class[7]).all()


def test_the_confusion_matrix_is_that_of_the_production_threshold(evaluated: Callable[..., Evaluation]) -> None:
    pictures = [([(0, A)], [(0, 0.9, A), *((1, 0.01, (x, 300, x + 50, 350)) for x in range(0, 500, 10))])]
    for confidence, total in ((0.25, 1), (0.001, 51)):
        analysis = evaluated(["cat", "dog"], pictures, confidence=confidence).analysis
        assert analysis is not None
        assert analysis.confusion.confidence == confidence
        assert analysis.confusion.matrix.sum() == total


def test_small_medium_and_large_are_measured_in_pixels_of_the_picture() -> None:
    """A picture of 1280 pixels on a canvas of 320: 120 pixels of the picture, a large object, are 30 of the canvas."""
    truth = np.array([[40, 80, 160, 200]], np.float32)
    table = make_table(truth, np.array([0]), size=(1280, 1280))
    canvas = Batch(
        images=torch.zeros(1, 3, 320, 320, dtype=torch.uint8), boxes=torch.zeros(0, 4), labels=torch.zeros(0).long(),
        image_index=torch.zeros(0).long(), ids=torch.tensor([0]), source_sizes=torch.tensor([[1280, 1280]]),
        matrices=torch.diag(torch.tensor([0.25, 0.25, 1])).double()[None],
    )  # fmt: skip
    found = select(Decoded(torch.tensor(truth.tolist())[None] / 4, torch.tensor([[[0.9]]])), canvas, PROTOCOL)
    assert found[0].boxes == pytest.approx(truth, abs=1e-3)
    evaluator = Evaluator(table)
    evaluator.update([0], found)
    stats = evaluator.compute(PROTOCOL).stats
    assert (stats.APs, stats.APm) == (-1, -1)
    assert stats.APl == pytest.approx(1.0)


def make_table(boxes: np.ndarray, labels: np.ndarray, *, size=(640, 480), crowd=None) -> LabelTable:
    from yolo.data.packed import PackedStrings

    return LabelTable(
        class_names=("cat", "dog"), category_ids=(1, 2), paths=PackedStrings.pack(["/nowhere/0.jpg"]),
        sizes=np.array([size], np.int32), offsets=np.array([0, len(boxes)]), boxes=boxes, labels=labels,
        crowd=np.zeros(len(boxes), bool) if crowd is None else crowd,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1), image_ids=np.array([7]),
    )  # fmt: skip


def test_crowds_are_ignored_and_not_dropped() -> None:
    """Where they are dropped, detections in them become false positives; where they count, they are missed objects."""
    boxes = np.array([[0, 0, 100, 100], [200, 0, 600, 400]], np.float32)
    table = make_table(boxes, np.array([0, 0]), crowd=np.array([False, True]))
    inside = np.array([[250, 50, 300, 100], [400, 100, 450, 200]], np.float32)
    evaluator = Evaluator(table)
    evaluator.update(
        [0], [Detected(np.concatenate([inside, boxes[:1]]), np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, int))]
    )
    evaluation = evaluator.compute(PROTOCOL)
    analysis = evaluation.analysis
    assert analysis is not None
    assert evaluation.metrics()["val/mAP"] == pytest.approx(1.0)
    assert evaluation.metrics()["val/precision"] == evaluation.metrics()["val/recall"] == 1.0
    assert analysis.curves.best_f1()[0] == 1.0
    assert analysis.confusion.matrix.sum() == 1
    assert not any(analysis.errors.counts.values())
    assert analysis.calibration.counts.sum() == 1


def test_an_exception_of_the_evaluator_is_an_error_and_not_map_0(
    tiny_data: Path, small_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> Evaluation:
        raise RuntimeError("the evaluator is broken")

    monkeypatch.setattr(Evaluator, "compute", broken)
    options = {
        "data.root": tiny_data, "data.image_size": 64, "data.batch_size": 4, "data.num_workers": 0,
        "data.close_mosaic_epochs": 0, "model.model_config": small_network, "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu", "trainer.enable_progress_bar": "false", "summary.enabled": "false",
        "progress.enabled": "false", "record.enabled": "false", "trainer.logger.init_args.save_dir": tmp_path,
    }  # fmt: skip
    cli = make_cli([f"--{key}={value}" for key, value in options.items()])
    with pytest.raises(RuntimeError, match="the evaluator is broken"):
        cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    assert "val/mAP" not in cli.trainer.callback_metrics
    assert cli.model.metrics_of_epoch() == {}


def test_what_is_written_gives_pycocotools_the_same_numbers(datasets: Path) -> None:
    """Through the table of a real data set, with crowds, and ids that neither start at 1 nor ascend."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    table = load_labels(DataConfig(root=str(datasets / "tiny-coco"), format="coco", cache_labels=False), "val")
    rng = np.random.default_rng(0)
    table = table.select(rng.permutation(len(table)))
    table = replace(table, category_ids=tuple(rng.permutation(1000)[: table.num_classes].tolist()))
    evaluator = Evaluator(table)
    for index in range(len(table)):
        truth = table.truth(index)
        near = np.repeat(np.arange(len(truth.labels)), 3)
        boxes = truth.boxes[near] + rng.normal(0, 4, (len(near), 4)).round().astype(np.float32)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = (rng.integers(1, 20, len(near)) / 20).astype(np.float32)  # many are equal
        evaluator.update([index], [Detected(boxes, scores, truth.labels[near].astype(np.int64))])
    evaluation = evaluator.compute(PROTOCOL)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(table.coco_ground_truth()))
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(json.loads(json.dumps(evaluator.coco_detections()))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert 0.05 < evaluation.stats.AP < 0.95
    assert table.crowd.any()
    assert list(evaluation.stats.as_dict().values()) == pytest.approx(list(judge.stats), abs=1e-9)
    precision = judge.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    order = np.argsort(np.argsort(table.category_ids))
    assert np.nan_to_num(evaluation.per_class[:, 0], nan=-1) == pytest.approx(precision[order], abs=1e-9)
