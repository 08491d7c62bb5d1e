"""What must hold for any boxes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from yolo.core.boxes import box_iou, ciou, cxcywh_to_xyxy, non_max_suppression, xyxy_to_cxcywh
from yolo.core.letterbox import letterbox_geometry, undo_letterbox

settings.register_profile("quick", max_examples=50, deadline=None)
settings.load_profile("quick")

coordinates = st.floats(-2000, 2000, width=32, allow_subnormal=False)
sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@st.composite
def boxes(draw: st.DrawFn, count: int | None = None) -> torch.Tensor:
    rows = count if count is not None else draw(st.integers(1, 12))
    raw = torch.from_numpy(draw(arrays(np.float32, (rows, 4), elements=coordinates)))
    return torch.cat((torch.minimum(raw[:, :2], raw[:, 2:]), torch.maximum(raw[:, :2], raw[:, 2:])), dim=1)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_a_fraction(first: torch.Tensor, second: torch.Tensor):
    iou = box_iou(first, second)
    assert ((iou >= 0) & (iou <= 1)).all()
    torch.testing.assert_close(iou, box_iou(second, first).t())


@given(boxes(6), boxes(6))
def test_ciou_is_symmetric_and_never_above_iou(first: torch.Tensor, second: torch.Tensor):
    value = ciou(first, second)
    torch.testing.assert_close(value, ciou(second, first), rtol=1e-4, atol=1e-5)
    assert value.isfinite().all()
    large = ((first[:, 2:] - first[:, :2]).amin(1) > 0.1) & ((second[:, 2:] - second[:, :2]).amin(1) > 0.1)
    assert (value <= box_iou(first, second).diagonal() + 1e-4)[large].all()
    assert (value >= -2).all()


@given(boxes())
def test_a_box_is_itself(first: torch.Tensor):
    large = (first[:, 2:] - first[:, :2]).amin(1) > 0.1
    torch.testing.assert_close(ciou(first, first)[large], torch.ones(int(large.sum())), rtol=0, atol=1e-3)


@given(boxes())
def test_conversions_are_inverse(first: torch.Tensor):
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(first)), first, rtol=1e-5, atol=1e-3)


@given(boxes(10), st.floats(0, 1), st.booleans(), st.integers(0, 2**31))
def test_suppression_is_idempotent(found: torch.Tensor, iou: float, class_agnostic: bool, seed: int):
    scores = torch.rand(1, 10, 3, generator=torch.Generator().manual_seed(seed))
    options = {"confidence": 0.2, "iou": iou, "max_detections": 100, "class_agnostic": class_agnostic}
    (once,) = non_max_suppression(found[None], scores, **options)
    again_scores = torch.zeros(1, len(once.scores), 3)
    again_scores[0, torch.arange(len(once.scores)), once.labels] = once.scores
    (twice,) = non_max_suppression(once.boxes[None], again_scores, **options)
    assert torch.equal(twice.boxes, once.boxes)
    assert torch.equal(twice.scores, once.scores)
    assert torch.equal(twice.labels, once.labels)


@given(sizes, sizes)
def test_letterbox_fits_and_keeps_proportions(source: tuple[int, int], target: tuple[int, int]):
    geometry = letterbox_geometry(source, target)
    content, offset = geometry.content, geometry.offset
    assert content[0] == target[0] or content[1] == target[1]
    scale = min(target[0] / source[0], target[1] / source[1])
    for axis in (0, 1):
        assert 1 <= content[axis] <= target[axis]
        assert offset[axis] == (target[axis] - content[axis]) // 2
        assert abs(content[axis] - source[axis] * scale) < 1 + 1e-6


@given(sizes, sizes, arrays(np.float64, (5, 4), elements=st.floats(0, 1)))
def test_letterbox_round_trip_of_boxes(source: tuple[int, int], target: tuple[int, int], fractions: np.ndarray):
    geometry = letterbox_geometry(source, target)
    low, high = np.minimum(fractions[:, :2], fractions[:, 2:]), np.maximum(fractions[:, :2], fractions[:, 2:])
    original = np.concatenate((low, high), axis=1) * np.array(source * 2)
    matrix = geometry.matrix
    canvas = original.copy()
    canvas[:, 0::2] = original[:, 0::2] * matrix[0, 0] + matrix[0, 2]
    canvas[:, 1::2] = original[:, 1::2] * matrix[1, 1] + matrix[1, 2]
    assert (canvas >= -1e-6).all()
    assert (canvas <= np.array(target * 2) + 1e-6).all()
    np.testing.assert_allclose(undo_letterbox(canvas, geometry), original, atol=1e-6 * max(source))
