"""The quick way to draw: a resize where a picture lies on whole pixels."""

from __future__ import annotations

from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo.core.letterbox import letterbox
from yolo.data.augment.affine import AffineParams, affine_matrix
from yolo.data.augment.base import Context
from yolo.data.augment.geometry import map_rect, transform_boxes
from yolo.data.augment.hsv import HSVParams, RandomHSV
from yolo.data.augment.letterbox import LetterBox, NoParams
from yolo.data.augment.paint import blank, paint
from yolo.data.augment.resize import resized
from yolo.data.augment.scene import Source, render
from yolo.data.augment.view import View
from yolo.data.testing.pictures import Pictures
from yolo.data.types import Sample, Targets

CANVAS = (96, 80)


def smooth(width: int, height: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (max(2, height // 6), max(2, width // 6), 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


placed = st.builds(
    lambda width, height, left, top, wide, high: (
        (width, height),
        np.array([[wide / width, 0, left], [0, high / height, top], [0, 0, 1]], np.float64),
    ),
    *(st.integers(1, 70), st.integers(1, 70), st.integers(-120, 90), st.integers(-120, 70)),
    *(st.integers(1, 200), st.integers(1, 200)),
)


@settings(max_examples=200, deadline=None)
@given(placed)
def test_a_resize_is_the_warp(example: tuple[tuple[int, int], np.ndarray]) -> None:
    """The same pixels are written, with the same colours, but for rounding (a warp's positions are rounded too)."""
    size, matrix = example
    image = smooth(*size)
    quick, slow = blank(CANVAS), blank(CANVAS)
    paint(quick, image, matrix)
    with mock.patch("yolo.data.augment.paint.resized", return_value=False):
        paint(slow, image, matrix)
    assert np.abs(quick.astype(int) - slow).max() <= 3
    x0, y0, x1, y1 = map_rect(matrix, (0, 0, *size))
    outside = np.ones(quick.shape[:2], bool)
    outside[max(0, round(y0)) : max(0, round(y1)), max(0, round(x0)) : max(0, round(x1))] = False
    assert (quick[outside] == 114).all()


@pytest.mark.parametrize("side", [0, 1])
def test_one_edge_on_a_pixel_is_enough(side: int) -> None:
    """Also the right and the lower one."""
    image = smooth(40, 30)
    factor = 1.37
    start = np.array([10.0, 7.0]) if side == 0 else np.array([70.0, 50.0]) - factor * np.array([40, 30])
    matrix = np.array([[factor, 0, start[0]], [0, factor, start[1]], [0, 0, 1]])
    quick, slow = np.zeros((2, 20, 24, 3), np.uint8)
    x, y = (16, 12) if side == 0 else (40, 28)
    assert resized(image, matrix, (x, y), quick)
    with mock.patch("yolo.data.augment.paint.resized", return_value=False):
        canvas = blank((96, 96))
        paint(canvas, image, matrix)
    slow[:] = canvas[y : y + 20, x : x + 24]
    assert np.abs(quick.astype(int) - slow).max() <= 2


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[1.3, 0, 2.4], [0, 1.3, 3.0], [0, 0, 1]]),  # between pixels
        np.array([[-1.0, 0, 50.0], [0, 1.0, 3.0], [0, 0, 1]]),  # a mirror image
        np.array([[4.0, 0, -140.0], [0, 4.0, -100.0], [0, 0, 1]]),  # hardly anything of it is wanted
    ],
)
def test_other_matrices_are_left_to_the_warp(matrix: np.ndarray) -> None:
    target = np.full((8, 8, 3), 7, np.uint8)
    assert not resized(smooth(60, 50), matrix, (0, 0), target)
    assert (target == 7).all()


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    zoom=st.floats(0.01, 3),
    shift=st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)),
)
def test_a_picture_moves_by_half_a_pixel_at_most(
    size: tuple[int, int], zoom: float, shift: tuple[float, float]
) -> None:
    affine = affine_matrix(AffineParams(zoom=zoom, shift=shift), (192, 160), CANVAS)
    fit = np.diag([0.4, 0.4, 1.0])
    exact, placed = View(affine, CANVAS).place(fit, size), View(affine, CANVAS, whole_pixels=True).place(fit, size)
    before, after = np.array(map_rect(exact, (0, 0, *size))), np.array(map_rect(placed, (0, 0, *size)))
    np.testing.assert_allclose(after, np.rint(after), atol=1e-9)
    tiny = (before[2:] - before[:2] < 1).any()
    assert np.abs(after - before).max() <= (1.5 if tiny else 0.5) + 1e-9


def test_turned_views_place_exactly() -> None:
    view = View(affine_matrix(AffineParams(degrees=3), CANVAS, CANVAS), CANVAS, whole_pixels=True)
    np.testing.assert_array_equal(view.place(np.eye(3), (10, 10)), view.matrix)


def test_boxes_follow_the_pixels() -> None:
    """A square of the picture and its box end at the same places, wherever the view puts them."""
    image = np.zeros((50, 60, 3), np.uint8)
    image[10:30, 20:45] = 255
    picture = Source(0, image, Targets(np.array([[20, 10, 45, 30]], np.float32), np.array([0])), (60, 50))
    for zoom in (0.5, 0.83, 1.0, 1.21):
        affine = affine_matrix(AffineParams(zoom=zoom, shift=(0.013, -0.027)), CANVAS, CANVAS)
        view = View(affine, CANVAS, whole_pixels=True)
        scene = LetterBox().arrange(NoParams(), Context(CANVAS), Pictures([picture]), view)
        sample = render(scene, view, 0)
        box = sample.targets.boxes[0].astype(float)
        np.testing.assert_allclose(box, transform_boxes(sample.matrix, picture.targets.boxes)[0], atol=1e-4)
        bright = sample.image[..., 0] / 255.0
        inside = bright * (sample.image != 114).all(2)
        assert inside.sum() == pytest.approx((box[2] - box[0]) * (box[3] - box[1]), rel=0.02)
        columns, rows = inside.sum(0), inside.sum(1)
        centre = [(np.arange(len(line)) + 0.5) @ line / line.sum() for line in (columns, rows)]
        np.testing.assert_allclose(centre, [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], atol=0.05)


def test_the_unmoved_picture_is_the_letterbox_of_prediction_exactly() -> None:
    for size in ((60, 50), (333, 100), (97, 401), (192, 160)):
        picture = Source(0, smooth(*size), Targets.empty(), size)
        view = View(np.eye(3), CANVAS, whole_pixels=True)
        scene = LetterBox().arrange(NoParams(), Context(CANVAS), Pictures([picture]), view)
        np.testing.assert_array_equal(render(scene, view, 0).image, letterbox(picture.image, CANVAS)[0])


@pytest.mark.parametrize("params", [HSVParams(1.01, 1.6, 0.7), HSVParams(0.99, 0.4, 1.39), HSVParams(1.9, 1.2, 1.1)])
def test_hsv_is_the_plain_arithmetic(params: HSVParams) -> None:
    """Also where tables are used, for large changes of the hue; and the seams between strips do not show."""
    image = smooth(70, 300)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float64)
    hsv *= params.hue, params.saturation, params.value
    hsv[..., 0] %= 180
    expected = cv2.cvtColor(np.clip(np.rint(hsv), 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
    got = RandomHSV().apply(Sample(image, Targets.empty(), 0, (70, 300)), params).image
    assert np.abs(got.astype(int) - expected).max() <= 6, "a step of the 8-bit hue is up to 4 levels"
    assert np.abs(got.astype(int) - expected).mean() < 0.2
