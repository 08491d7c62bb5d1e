"""COCO's numbers equal pycocotools, and precision and recall are what they say."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.coco import evaluate_coco
from yolo.training.metrics.flat import Detections, Truth
from yolo.training.metrics.operating import Counts


@pytest.mark.parametrize("case", ["synthetic", "tinycoco"])
def test_twelve_numbers_equal_the_golden_ones(reference: Path, case: str) -> None:
    truth = json.loads((reference / "map" / f"{case}_gt.json").read_text())
    found = json.loads((reference / "map" / f"{case}_dt.json").read_text())
    golden = json.loads((reference / "map" / f"{case}_expected.json").read_text())
    result = evaluate_coco(truth, found)
    assert result.stats.as_dict() == pytest.approx(golden["stats"], abs=1e-6)
    for row, category in zip(result.per_class, result.category_ids, strict=True):
        wanted = golden["per_class"].get(str(category))
        if wanted is None or wanted["AP"] == -1:
            assert np.isnan(row).all()
        else:
            assert row == pytest.approx([wanted["AP"], wanted["AP50"], wanted["AP75"]], abs=1e-6)


def random_case(seed: int) -> tuple[dict, list[dict]]:
    rng = np.random.default_rng(seed)
    truth = {
        "images": [{"id": i, "width": 200, "height": 150} for i in range(1, 13)],
        "categories": [{"id": c, "name": str(c)} for c in (2, 5, 90)],
        "annotations": [],
    }
    found = []
    for image in range(1, 13):
        for _ in range(rng.integers(0, 7)):
            box = [*rng.uniform(0, 120, 2), *rng.uniform(4, 120, 2)]
            category = int(rng.choice([2, 5]))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1, "image_id": image, "category_id": category, "bbox": box,
                    "area": box[2] * box[3] * rng.uniform(0.4, 1), "iscrowd": int(rng.random() < 0.15),
                }
            )  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                moved = [*(np.array(box) + rng.normal(0, 8, 4)).clip(1)]
                found.append({"image_id": image, "category_id": category, "bbox": moved, "score": float(rng.random())})
    return truth, found


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_pycocotools_with_crowds_and_gaps_in_ids(seed: int) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = random_case(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(truth))
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(json.loads(json.dumps(found))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    ours = evaluate_coco(truth, found).stats.as_dict()
    assert list(ours.values()) == pytest.approx(list(judge.stats), abs=1e-6)


def test_no_detections_at_all_is_zero_and_not_an_error() -> None:
    truth, _ = random_case(0)
    stats = evaluate_coco(truth, []).stats
    assert stats.AP == 0.0
    assert stats.AR100 == 0.0


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 4)


def count(truth, found, classes=2) -> Counts:
    truth_boxes, labels, crowd = truth
    found_boxes, scores, found_labels = found
    objects = Truth(
        image=np.zeros(len(labels), np.int64), boxes=truth_boxes, labels=labels, crowd=crowd,
        area=np.ones(len(labels)), images=1, class_names=tuple(map(str, range(classes))),
    )  # fmt: skip
    detections = Detections(np.zeros(len(scores), np.int64), found_boxes, scores, found_labels)
    return Analysis(detections, objects, 0.0).counts


def test_a_duplicate_and_a_wrong_class_are_false_positives() -> None:
    truth = boxes([0, 0, 10, 10], [20, 0, 30, 10]), np.array([0, 1]), np.zeros(2, bool)
    found = (
        boxes([0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]),
        np.array([0.9, 0.8, 0.7]),
        np.array([0, 0, 0]),
    )
    counts = count(truth, found)
    assert counts.true_positives.tolist() == [1, 0]
    assert counts.false_positives.tolist() == [2, 0]
    assert counts.truths.tolist() == [1, 1]
    assert counts.precision().tolist() == pytest.approx([1 / 3, 0])
    assert counts.recall().tolist() == [1, 0]
    assert counts.means() == pytest.approx((1 / 6, 0.5, 0.25))


def test_detections_on_a_crowd_count_neither_way() -> None:
    truth = boxes([0, 0, 100, 100]), np.array([0]), np.ones(1, bool)
    found = boxes([10, 10, 20, 20], [50, 50, 60, 60]), np.array([0.9, 0.8]), np.array([0, 0])
    counts = count(truth, found, 1)
    assert (counts.true_positives[0], counts.false_positives[0], counts.truths[0]) == (0, 0, 0)


def test_classes_without_truth_do_not_pull_the_means_down() -> None:
    truth = boxes([0, 0, 10, 10]), np.array([0]), np.zeros(1, bool)
    found = boxes([0, 0, 10, 10]), np.array([0.9]), np.array([0])
    assert count(truth, found, 80).means() == (1.0, 1.0, 1.0)


def test_the_best_score_takes_the_object() -> None:
    truth = boxes([0, 0, 10, 10]), np.array([0]), np.zeros(1, bool)
    found = boxes([0, 0, 10, 8], [0, 0, 10, 10]), np.array([0.4, 0.6]), np.array([0, 0])
    counts = count(truth, found, 1)
    assert (counts.true_positives[0], counts.false_positives[0]) == (1, 1)
