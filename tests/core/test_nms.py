"""Suppression against the published outputs, and its limits."""

from __future__ import annotations

import base64
import json
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo.core.boxes import Detected, box_iou, non_max_suppression

GOLDEN = Path(__file__).parents[1] / "golden" / "nms.json"


def unpack(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype)


def test_compact_golden():
    golden = json.loads(GOLDEN.read_text())
    boxes = torch.from_numpy(unpack(golden["boxes"], "int32").reshape(1, 400, 4) / np.float32(16))
    scores = torch.from_numpy(unpack(golden["logits"], "float32").reshape(1, 400, 12).copy()).sigmoid()
    for case in golden["cases"]:
        (found,) = non_max_suppression(
            boxes, scores, confidence=case["confidence"], iou=case["iou"], max_detections=case["max"]
        )
        assert found.anchors.tolist() == case["anchor"]
        assert found.labels.tolist() == case["class"]


@pytest.mark.parametrize("source", ["official", "upstream"])
def test_all_published_cases(reference: Path, source: str):
    inputs = np.load(reference / "postprocess" / "nms_inputs.npz")
    golden = np.load(reference / "postprocess" / f"nms_{source}.npz")
    boxes = torch.from_numpy(inputs["boxes_xyxy"])
    scores = torch.from_numpy(inputs["class_logits"]).sigmoid()
    cases = sorted({name.split("/")[0] for name in golden.files if "with_objectness" not in name})
    assert len(cases) >= 6
    for case in cases:
        confidence, iou, limit = (part.lstrip("confiumax") for part in case.split("_")[:3])
        found = non_max_suppression(
            boxes,
            scores,
            confidence=float(confidence),
            iou=float(iou),
            max_detections=int(limit),
            multi_label="single_label" not in case,
        )
        for image, result in enumerate(found):
            prefix = f"{case}/img{image}/"
            assert np.array_equal(result.anchors, golden[prefix + "anchor"]), prefix
            assert np.array_equal(result.labels, golden[prefix + "class"]), prefix
            np.testing.assert_allclose(result.scores, golden[prefix + "score"], atol=1e-6)
            assert torch.equal(result.boxes, boxes[image, result.anchors])


def suppress(boxes: list[list[float]], scores: list[list[float]], **options: object) -> Detected:
    settings = {"confidence": 0.25, "iou": 0.5, "max_detections": 10, **options}
    (found,) = non_max_suppression(torch.tensor([boxes]), torch.tensor([scores]), **settings)  # type: ignore[arg-type]
    return found


def test_bounds_are_strict():
    half = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 5.0, 10.0]]  # IoU exactly one half
    assert suppress(half, [[0.9], [0.8]]).anchors.tolist() == [0, 1]
    assert suppress(half, [[0.9], [0.8]], iou=0.49).anchors.tolist() == [0]
    assert suppress(half, [[0.25], [0.26]]).anchors.tolist() == [1]


def test_classes_do_not_suppress_each_other_unless_asked():
    same = [[0.0, 0.0, 10.0, 10.0]] * 2
    scores = [[0.9, 0.3], [0.1, 0.8]]
    found = suppress(same, scores)
    assert list(zip(found.anchors.tolist(), found.labels.tolist(), strict=True)) == [(0, 0), (1, 1)]
    assert suppress(same, scores, class_agnostic=True).anchors.tolist() == [0]
    far = [[-900.0, -900.0, 10.0, 10.0]] * 2  # coordinates may be negative
    assert len(suppress(far, scores).anchors) == 2


def test_single_label_takes_the_best_class():
    scores = [[0.5, 0.9, 0.7]]
    assert suppress([[0.0, 0.0, 4.0, 4.0]], scores).labels.tolist() == [1, 2, 0]
    assert suppress([[0.0, 0.0, 4.0, 4.0]], scores, multi_label=False).labels.tolist() == [1]


def test_equal_scores_keep_the_order_of_predictions():
    boxes = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(8)]
    found = suppress(boxes, [[0.5, 0.5]] * 8, max_candidates=5)
    assert list(zip(found.anchors.tolist(), found.labels.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 0),
    ]


def test_nothing_to_find():
    for classes, anchors in ((3, 5), (3, 0), (0, 5)):
        for multi_label in (True, False):
            if anchors == 0 and not multi_label:
                continue
            (found,) = non_max_suppression(
                torch.zeros(1, anchors, 4),
                torch.zeros(1, anchors, classes),
                confidence=0.1,
                iou=0.5,
                max_detections=5,
                multi_label=multi_label,
            )
            assert [part.shape[0] for part in found] == [0, 0, 0, 0]
    assert (
        non_max_suppression(torch.zeros(0, 5, 4), torch.zeros(0, 5, 2), confidence=0.1, iou=0.5, max_detections=5) == []
    )


def test_broken_predictions_do_not_take_the_others_with_them():
    nan, infinite = float("nan"), float("inf")
    boxes = [[nan, 0.0, 5.0, 5.0], [0.0, 0.0, infinite, 5.0], [0.0, 0.0, 9.0, 9.0], [50.0, 50.0, 60.0, 60.0]]
    assert suppress(boxes, [[0.9], [0.8], [0.7], [nan]]).anchors.tolist() == [2]
    found = suppress(boxes, [[0.9, 0.9], [0.8, 0.8], [0.7, nan], [nan, 0.6]])  # an undefined score beside a good one
    assert list(zip(found.anchors.tolist(), found.labels.tolist(), strict=True)) == [(2, 0), (3, 1)]


def test_the_order_in_memory_does_not_matter():
    """Networks give scores prediction by prediction, exported files class by class."""
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(200, 2, generator=generator) * 50
    boxes = torch.cat((corner, corner + 10), dim=1)[None]
    scores = torch.rand(1, 200, 7, generator=generator) ** 3
    scores[0, 5, 2], scores[0, 9] = torch.nan, torch.nan
    by_class = scores.transpose(1, 2).contiguous().transpose(1, 2)
    assert by_class[0].stride() == (1, 200)
    (first,), (second,) = (
        non_max_suppression(boxes, kind, confidence=0.2, iou=0.5, max_detections=100) for kind in (scores, by_class)
    )
    assert len(first.scores) > 20
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_prefixes_give_what_one_pass_gives():
    generator = torch.Generator().manual_seed(1)
    centre = torch.rand(600, 2, generator=generator) * 60
    boxes = torch.cat((centre, centre + 30 * torch.rand(600, 2, generator=generator)), dim=1)[None]
    scores = torch.rand(1, 600, 2, generator=generator)
    options = {"confidence": 0.01, "iou": 0.4}
    (everything,) = non_max_suppression(boxes, scores, max_detections=10_000, **options)
    for limit in (1, 5, 40):
        (some,) = non_max_suppression(boxes, scores, max_detections=limit, **options)
        assert torch.equal(some.anchors, everything.anchors[:limit])
        assert torch.equal(some.labels, everything.labels[:limit])
    for label in (0, 1):
        kept = everything.boxes[everything.labels == label]
        assert (box_iou(kept, kept) - torch.eye(len(kept))).max() <= 0.4


@pytest.mark.parametrize("spread", [0.0, 50.0, 5000.0])
def test_time_is_bounded_when_everything_passes(spread: float):
    generator = torch.Generator().manual_seed(2)
    centre = torch.rand(8400, 2, generator=generator) * spread
    boxes = torch.cat((centre, centre + 20), dim=1)[None]
    scores = torch.rand(1, 8400, 16, generator=generator)  # 134,400 candidates
    start = time.perf_counter()
    (found,) = non_max_suppression(boxes, scores, confidence=0.0, iou=0.65, max_detections=300)
    assert time.perf_counter() - start < 6
    assert 16 <= len(found.scores) <= 300
