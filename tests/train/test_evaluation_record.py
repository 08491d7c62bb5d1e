"""An evaluation as data: everything is there, it is strict JSON, and the parts agree with each other."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from yolo.training.metrics import Evaluation
from yolo.training.metrics.tide import CAUSES

A, B, C, NOWHERE = (0, 0, 40, 40), (100, 0, 140, 40), (200, 0, 240, 40), (400, 400, 440, 440)
PICTURES = [
    ([(0, A), (1, B), (0, C)], [(0, 0.9, A), (0, 0.8, A), (2, 0.7, B), (1, 0.6, NOWHERE), (0, 0.1, C)]),
    ([(1, A)], [(1, 0.95, A)]),
    ([], []),
]


def reject(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def strict(evaluation: Evaluation) -> dict[str, Any]:
    """Through a parser that takes no NaN."""
    record: dict[str, Any] = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False), parse_constant=reject)
    return record


@pytest.fixture
def record(evaluated: Callable[..., Evaluation]) -> dict[str, Any]:
    return strict(evaluated(["cat", "dog", "bird", "fish"], PICTURES))


def test_the_protocol_is_complete(record: dict[str, Any]) -> None:
    assert record["protocol"] == {
        "confidence": 0.001, "iou": 0.65, "max_detections": 300, "size": [640, 480], "weights": "ema",
        "match_iou": 0.5,
    }  # fmt: skip
    assert (record["images"], record["split_images"]) == (3, 3)
    for part in ("operating_point", "best_f1", "confusion", "errors", "detections", "calibration"):
        assert record[part]["iou"] == 0.5, part
        assert "confidence" in record[part], part
    assert record["operating_confidence"] == record["operating_point"]["confidence"] == 0.25


def test_the_operating_point(record: dict[str, Any]) -> None:
    point = record["operating_point"]
    assert [point[key] for key in ("true_positives", "false_positives", "false_negatives", "objects")] == [2, 3, 2, 4]
    assert point["precision"] == record["metrics"]["val/precision"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert point["recall"] == record["metrics"]["val/recall"] == pytest.approx(0.5)
    assert point["f1"] == record["metrics"]["val/f1"]
    assert record["sweep"][4]["confidence"] == 0.25
    assert {key: point[key] for key in ("precision", "recall", "f1")} == pytest.approx(
        {key: record["sweep"][4][key] for key in ("precision", "recall", "f1")}
    )


def test_each_class(record: dict[str, Any]) -> None:
    assert list(record["per_class"]) == ["cat", "dog", "bird", "fish"]
    cat, bird = record["per_class"]["cat"], record["per_class"]["bird"]
    assert (cat["precision"], cat["recall"], cat["f1"], cat["objects"]) == (0.5, 0.5, 0.5, 2)
    assert (cat["true_positives"], cat["false_positives"]) == (1, 1)
    assert (cat["best_f1"], cat["best_f1_confidence"]) == (pytest.approx(0.8), 0.0)
    assert (bird["AP"], bird["AP50"], bird["best_f1"], bird["objects"]) == (None, None, None, 0)  # no truth
    assert bird["false_positives"] == 1


def test_sweep_from_5_to_95_per_cent(record: dict[str, Any]) -> None:
    assert [row["confidence"] for row in record["sweep"]] == [round(0.05 * i, 2) for i in range(1, 20)]


def test_confusions(record: dict[str, Any]) -> None:
    confusion = record["confusion"]
    assert confusion["classes"] == ["cat", "dog", "bird", "fish", "background"]
    assert confusion["top"] == [{"predicted": "bird", "true": "dog", "count": 1}]
    assert np.diag(confusion["matrix"]).tolist() == [1, 1, 0, 0, 0]


def test_errors_by_cause_add_up(record: dict[str, Any]) -> None:
    errors, point = record["errors"], record["operating_point"]
    assert list(errors["counts"]) == list(errors["gains"]) == list(CAUSES)
    assert errors["AP"] == pytest.approx(record["stats"]["AP50"])
    assert errors["counts"] == {
        "classification": 1, "localisation": 0, "both": 0, "duplicate": 1, "background": 1, "missed": 0
    }  # fmt: skip
    seen = errors["at_operating_confidence"]
    assert sum(seen["false_positives"].values()) == point["false_positives"]
    assert seen["false_negatives"] == {"below_confidence": 1, "classification": 1, "localisation": 0, "missed": 0}
    assert sum(seen["false_negatives"].values()) == point["false_negatives"]


def test_the_rest(record: dict[str, Any]) -> None:
    assert set(record["stats"]) == {
        "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"
    }  # fmt: skip
    assert record["best_f1"]["f1"] >= record["operating_point"]["f1"]
    assert record["detections"]["mean_per_image"] == pytest.approx(5 / 3)
    assert record["detections"]["mean_iou"] == 1.0
    bins = record["calibration"]["bins"]
    assert (bins[0]["low"], bins[-1]["high"], len(bins)) == (0.0, 1.0, 20)
    assert sum(entry["count"] for entry in bins) == 6
    assert bins[0]["precision"] is None
    assert record["calibration"]["d_ece"] > 0


def numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    else:
        yield value


@pytest.mark.parametrize(
    "pictures",
    [[], [([], [])], [([], [(0, 0.9, A)])], [([(0, A)], [])], [([(0, A)], [(1, 0.5, A)])]],
    ids=["no images", "nothing", "no truth", "no detections", "the wrong class"],
)
def test_empty_cases_are_strict_json(pictures: list, evaluated: Callable[..., Evaluation]) -> None:
    record = strict(evaluated(["cat", "dog"], pictures))
    assert all(type(value) in (int, float, str, type(None)) for value in numbers(record))
    assert all(0 <= value <= 1 for value in record["metrics"].values())
    assert record["images"] == len(pictures)
    assert sum(map(sum, record["confusion"]["matrix"])) >= 0
