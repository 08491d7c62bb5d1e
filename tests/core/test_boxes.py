"""Conversions, overlaps, anchor grids."""

from __future__ import annotations

import math

import pytest
import torch

from yolo.core.boxes import box_iou, ciou, cxcywh_to_xyxy, make_grid, xyxy_to_cxcywh


def test_conversions_by_hand():
    corners = torch.tensor([[10.0, 20.0, 30.0, 80.0], [5.0, 5.0, 5.0, 5.0]])
    centres = torch.tensor([[20.0, 50.0, 20.0, 60.0], [5.0, 5.0, 0.0, 0.0]])
    assert torch.equal(xyxy_to_cxcywh(corners), centres)
    assert torch.equal(cxcywh_to_xyxy(centres), corners)
    assert xyxy_to_cxcywh(torch.zeros(0, 4)).shape == (0, 4)


def test_iou_by_hand():
    first = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 0.0, 0.0]])
    second = torch.tensor(
        [[5.0, 0.0, 15.0, 10.0], [20.0, 20.0, 30.0, 30.0], [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 0.0, 0.0]]
    )
    expected = torch.tensor([[1 / 3, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(box_iou(first, second), expected)
    assert box_iou(torch.zeros(0, 4), second).shape == (0, 4)


def test_ciou_by_hand():
    first = torch.tensor([0.0, 0.0, 10.0, 20.0], dtype=torch.float64)
    second = torch.tensor([4.0, 6.0, 16.0, 12.0], dtype=torch.float64)
    iou = 36 / (200 + 72 - 36)
    distance = ((5 - 10) ** 2 + (10 - 9) ** 2) / (16**2 + 20**2)
    aspect = 4 / math.pi**2 * (math.atan(10 / 20) - math.atan(12 / 6)) ** 2
    expected = iou - distance - aspect * aspect / (1 - iou + aspect)
    assert ciou(first, second).item() == pytest.approx(expected, abs=1e-6)


def test_ciou_weight_of_the_aspect_term_is_constant_in_the_gradient():
    first = torch.tensor([0.0, 0.0, 10.0, 20.0], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([0.0, 0.0, 20.0, 10.0], dtype=torch.float64)
    ciou(first, second).backward()
    weight = (lambda v, iou: v / (v - iou + 1))(4 / math.pi**2 * (math.atan(0.5) - math.atan(2)) ** 2, 100 / 300)

    def frozen(x2: float) -> float:
        area, inner = x2 * 20, x2 * 10
        aspect = 4 / math.pi**2 * (math.atan(x2 / 20) - math.atan(2)) ** 2
        return inner / (area + 200 - inner) - ((x2 - 20) ** 2 + 100) / 4 / (20**2 + 20**2) - weight * aspect

    numeric = (frozen(10 + 1e-5) - frozen(10 - 1e-5)) / 2e-5
    assert first.grad is not None
    assert first.grad[2].item() == pytest.approx(numeric, rel=1e-4)


def test_ciou_is_elementwise():
    boxes = torch.rand(200_000, 4)  # every pair of them would be 40 billion numbers
    assert ciou(boxes, boxes).shape == (200_000,)


@pytest.mark.parametrize(
    "box", [[5.0, 5.0, 5.0, 5.0], [0.0, 3.0, 50.0, 3.0], [3.0, 0.0, 3.0, 50.0], [0.0, 0.0, 1e6, 1e6]]
)
def test_ciou_of_odd_boxes_is_finite_with_finite_gradient(box: list[float]):
    first = torch.tensor(box, requires_grad=True)
    for second in (torch.tensor([1.0, 1.0, 2.0, 2.0]), torch.tensor(box)):
        value = ciou(first, second)
        value.backward()
        assert value.isfinite()
        assert first.grad is not None
        assert first.grad.isfinite().all()


def test_grid_order_and_centres():
    grid = make_grid([(2, 3), (1, 2)], (8, 16))
    expected = [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8], [24, 8]]
    assert grid.centers.tolist() == expected
    assert grid.strides.tolist() == [8] * 6 + [16] * 2
    with pytest.raises(ValueError, match="strides"):
        make_grid([(2, 3)], (8, 16))


def test_grid_first_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        make_grid([(7, 9)], (4,))
    grid = make_grid([(7, 9)], (4,))
    weight = torch.ones(63, 2, requires_grad=True)
    (weight * grid.centers).sum().backward()
    assert grid is make_grid([(7, 9)], (4,))


def test_grid_cache_keeps_no_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        make_grid([(5, 6)], (4,))
    assert make_grid([(5, 6)], (4,)).centers.sum().item() > 0
