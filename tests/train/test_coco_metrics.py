"""COCO's numbers equal pycocotools, and precision and recall are what they say."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from yolo.training.metrics import Detected, Evaluation, Evaluator, Protocol
from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.flat import Detections, Truth
from yolo.training.metrics.operating import Counts
from yolo.training.report.stored import read_detections, read_truth


def evaluate(truth: dict, found: list[dict], *, most: int = 300) -> tuple[Evaluation, Evaluator]:
    """Evaluate COCO's two files, in an order of images that is not that of their ids."""
    for image in truth["images"]:
        image.setdefault("file_name", f"{image['id']}.jpg")
    table = read_truth(truth)
    table = table.select(np.random.default_rng(0).permutation(len(table)))
    evaluator = Evaluator(table)
    for index, one in enumerate(read_detections(found, table) if len(table) else []):
        kept = np.sort(np.argsort(-one.scores, kind="stable")[:most])
        evaluator.update([index], [Detected(one.boxes[kept], one.scores[kept], one.labels[kept])])
    return evaluator.compute(Protocol(0.0, 0.65, most, (300, 300))), evaluator


@pytest.mark.parametrize("case", ["synthetic", "tinycoco"])
def test_all_numbers_equal_the_golden_ones(reference: Path, case: str) -> None:
    """The twelve, and those of each class: 31 crowds, ties, unused classes, more than 100 detections in an image."""
    truth = json.loads((reference / "map" / f"{case}_gt.json").read_text())
    found = json.loads((reference / "map" / f"{case}_dt.json").read_text())
    golden = json.loads((reference / "map" / f"{case}_expected.json").read_text())
    assert golden["num"]["crowd"] > 0
    result, evaluator = evaluate(truth, found)
    assert result.stats.as_dict() == pytest.approx(golden["stats"], abs=1e-9)
    compared = 0
    for row, category in zip(result.per_class, evaluator.truth.category_ids, strict=True):
        wanted = golden["per_class"].get(str(category))
        if wanted is None or wanted["AP"] == -1:
            assert np.isnan(row).all()
        else:
            compared += 1
            assert row == pytest.approx([wanted["AP"], wanted["AP50"], wanted["AP75"]], abs=1e-9)
    assert compared == sum(entry["AP"] != -1 for entry in golden["per_class"].values()) > 5


def random_case(seed: int) -> tuple[dict, list[dict]]:
    """Few images, unsorted ids, a class that never occurs; every other case has coarse boxes and scores, so ties."""
    rng = np.random.default_rng(seed)
    coarse, many = seed % 2 == 1, seed % 4 == 0
    images, categories = rng.permutation(60)[: rng.integers(1, 7)].tolist(), [90, 2, 5, 7]
    truth = {
        "images": [{"id": i, "width": 300, "height": 300} for i in images],
        "categories": [{"id": c, "name": str(c)} for c in categories],
        "annotations": [],
    }
    found = []

    def box() -> np.ndarray:
        if coarse:
            return np.concatenate([rng.integers(0, 6, 2), rng.integers(1, 8, 2)]) * 16.0
        return np.concatenate([rng.uniform(0, 100, 2), rng.uniform(2, 160, 2)])

    def detect(image: int, category: int, bbox: np.ndarray) -> None:
        score = float(rng.integers(0, 10) / 10 if coarse else rng.random())
        found.append({"image_id": image, "category_id": category, "bbox": bbox.tolist(), "score": score})

    for image in images:
        for _ in range(rng.integers(0, 12)):
            bbox, category = box(), int(rng.choice(categories[:3]))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1, "image_id": image, "category_id": category,
                    "bbox": bbox.tolist(), "area": bbox[2] * bbox[3] * (1 if coarse else rng.uniform(0.4, 1)),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                moved = bbox + (rng.integers(-1, 2, 4) * 16 if coarse else rng.normal(0, 8, 4))
                moved[2:] = moved[2:].clip(1)
                detect(image, int(rng.choice([category] * 3 + categories)), moved)
        for _ in range(150 if many else 5):
            detect(image, categories[0] if many else int(rng.choice(categories)), box())
    rng.shuffle(found)
    rng.shuffle(truth["annotations"])
    return truth, found


def check_against_pycocotools(result: Evaluation, evaluator: Evaluator) -> None:
    """Compare with what it makes of the two files that an evaluation writes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(evaluator.truth.coco_ground_truth()))
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(json.loads(json.dumps(evaluator.coco_detections()))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert list(result.stats.as_dict().values()) == pytest.approx(list(judge.stats), abs=1e-12)
    precision = judge.eval["precision"][:, :, :, 0, -1]
    precision = np.where(precision > -1, precision, np.nan)
    wanted = np.stack([precision.mean(axis=(0, 1)), precision[0].mean(axis=0), precision[5].mean(axis=0)], axis=1)
    order = np.argsort(np.argsort(evaluator.truth.category_ids))  # pycocotools goes by ascending id
    assert result.per_class == pytest.approx(wanted[order], abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(24))
def test_equal_to_pycocotools(seed: int) -> None:
    """Every third time with fewer detections in an image than COCO would count."""
    check_against_pycocotools(*evaluate(*random_case(seed), most=300 if seed % 3 else 7))


@pytest.mark.parametrize(("objects", "right"), [([0, 20], 1), ([20, 0], 2)])
def test_of_equal_overlaps_the_last_object_is_taken(objects: list[int], right: int) -> None:
    """The first box lies between both objects; the second fits only the one that starts at 20."""
    truth = {"images": [{"id": 3, "width": 300, "height": 300}], "categories": [{"id": 1, "name": "cat"}]}
    truth["annotations"] = [
        {"id": i, "image_id": 3, "category_id": 1, "bbox": [0, y, 100, 100], "area": 10000, "iscrowd": 0}
        for i, y in enumerate(objects, start=1)
    ]
    found = [
        {"image_id": 3, "category_id": 1, "bbox": [0, y, 100, 100], "score": score}
        for y, score in ((10, 0.9), (50, 0.8))
    ]
    result, evaluator = evaluate(truth, found)
    check_against_pycocotools(result, evaluator)
    assert result.counts.true_positives.tolist() == [right]


def test_no_detections_at_all_is_zero_and_not_an_error() -> None:
    truth, _ = random_case(1)
    result, _ = evaluate(truth, [])
    assert result.stats.AP == 0.0
    assert result.stats.AR100 == 0.0
    assert sorted(set(result.per_class[~np.isnan(result.per_class)].tolist())) == [0.0]


@pytest.mark.parametrize("detections", [0, 5])
def test_nothing_to_find_is_minus_one_as_in_pycocotools(detections: int) -> None:
    truth, found = random_case(1)
    result, _ = evaluate(truth | {"annotations": []}, found[:detections])
    assert set(result.stats.as_dict().values()) == {-1.0}
    assert np.isnan(result.per_class).all()
    nothing, _ = evaluate({"images": [], "annotations": [], "categories": truth["categories"]}, [])
    assert nothing.stats.AP == -1.0


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
