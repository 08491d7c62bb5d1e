"""Matrices, the one warp, and boxes: stated parameters give computed places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolo.core.letterbox import letterbox, letterbox_geometry
from yolo.data.augment.affine import AffineParams, RandomAffine, affine_matrix
from yolo.data.augment.base import Context
from yolo.data.augment.geometry import (
    clip_boxes,
    corners,
    move_targets,
    transform_boxes,
    transform_points,
    worth_keeping,
)
from yolo.data.augment.mosaic import Mosaic, MosaicParams
from yolo.data.augment.paint import blank, paint
from yolo.data.augment.pipeline import Pipeline
from yolo.data.augment.scene import Source, View, render
from yolo.data.types import Sample, Targets

S = 64
STILL = RandomAffine(degrees=0, translate=0, scale=0)


class Pictures:
    """Sources in memory that remember what was read."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sources
        self.seen: list[int] = []

    def read(self, index: int) -> Source:
        self.seen.append(index)
        return self.sources[index]

    def size(self, index: int) -> tuple[int, int]:
        return self.sources[index].size


def smooth(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture without sharp edges, so that interpolation rounding stays small."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.02, 0.12, (3, 3)) * (1, 1, 40)]
    return np.asarray(128 + 90 * np.stack(waves, -1), np.uint8)


def source(index: int, width: int, height: int, boxes: list[list[float]] | None = None) -> Source:
    array = np.array(boxes or [], np.float32).reshape(-1, 4)
    return Source(index, smooth(width, height, index), Targets(array, np.full(len(array), index)), (width, height))


def test_rotation_by_a_quarter_moves_the_corners_clockwise() -> None:
    matrix = affine_matrix(AffineParams(degrees=90), (S, S), (S, S))
    moved = transform_points(matrix, corners((0, 0, S, S)))
    np.testing.assert_allclose(moved, [[S, 0], [S, S], [0, S], [0, 0]], atol=1e-9)


def test_zoom_shift_and_shear_move_known_points() -> None:
    zoomed = affine_matrix(AffineParams(zoom=0.5, shift=(0.25, -0.125)), (2 * S, 2 * S), (S, S))
    np.testing.assert_allclose(transform_points(zoomed, np.array([[S, S], [0, 0]])), [[48, 24], [16, -8]])
    sheared = affine_matrix(AffineParams(shear=(45, 0)), (S, S), (S, S))
    np.testing.assert_allclose(transform_points(sheared, np.array([[S / 2, S]])), [[S, S]])


def test_perspective_leaves_the_middle_and_never_turns_the_scene_inside_out() -> None:
    matrix = affine_matrix(AffineParams(perspective=(0.1, 0.1)), (1280, 1280), (640, 640))
    np.testing.assert_allclose(transform_points(matrix, np.array([[640.0, 640.0]])), [[320, 320]])
    depth = corners((0, 0, 1280, 1280)) @ matrix[2, :2] + matrix[2, 2]
    assert (depth / (np.array([640, 640]) @ matrix[2, :2] + matrix[2, 2]) > 0.1).all()


def test_a_quarter_turn_of_an_image_is_exact() -> None:
    image = smooth(S, S)
    sample = Sample(image, Targets(np.array([[4, 8, 20, 16]], np.float32), np.array([1])), 0, (S, S))
    turned = STILL.apply(sample, AffineParams(degrees=90))
    np.testing.assert_allclose(turned.image.astype(int), np.rot90(image, -1).astype(int), atol=1)
    np.testing.assert_allclose(turned.targets.boxes, [[S - 16, 4, S - 8, 20]], atol=1e-4)
    np.testing.assert_allclose(turned.matrix, affine_matrix(AffineParams(degrees=90), (S, S), (S, S)))


def test_paint_writes_exactly_the_pixels_whose_middle_is_covered() -> None:
    canvas = blank((10, 10))
    matrix = np.array([[1, 0, 2.4], [0, 1, 3.6], [0, 0, 1]], np.float64)
    paint(canvas, np.full((4, 4, 3), 200, np.uint8), matrix)
    written = canvas[..., 0] != 114
    assert written[4:8, 2:6].all() and written.sum() == 16


def test_paint_with_a_turned_region_agrees_with_the_plain_one() -> None:
    image = smooth(40, 30)
    matrix = np.array([[1.3, 0, 2.2], [0, 1.3, 5.1], [0, 0, 1]], np.float64)
    plain, masked = blank((S, S)), blank((S, S))
    paint(plain, image, matrix, corners((0, 0, 45, 40)))
    nearly = corners((0, 0, 45, 40)) + np.array([[0, 1e-9], [1e-9, 0], [0, -1e-9], [-1e-9, 0]])
    paint(masked, image, matrix, nearly)
    np.testing.assert_array_equal(plain, masked)


def test_a_picture_outside_changes_nothing() -> None:
    canvas = blank((8, 8))
    paint(canvas, np.zeros((4, 4, 3), np.uint8), np.array([[1, 0, 20], [0, 1, 0], [0, 0, 1]], np.float64))
    assert (canvas == 114).all()


@pytest.mark.parametrize(
    "size", [(S, S), (2 * S, 2 * S), (3 * S, 3 * S), (2 * S, S), (3 * S, 2 * S), (77, 31), (20, 9)]
)
def test_an_unmoved_single_picture_is_the_letterboxed_one(size: tuple[int, int]) -> None:
    """Also for images exactly 2 or 3 times the target size, which must not be cropped."""
    picture = source(0, *size, [[1, 1, size[0] - 1, size[1] - 1]])
    pipeline = Pipeline((S, S), STILL)
    context = Context((S, S))
    plan = pipeline.draw(np.random.default_rng(0), context, mix=True)
    sample = pipeline.carry_out(plan, context, Pictures([picture]))
    expected, geometry = letterbox(picture.image, (S, S))
    assert np.abs(sample.image.astype(int) - expected).max() <= 2
    np.testing.assert_allclose(sample.matrix, geometry.matrix)
    np.testing.assert_allclose(sample.targets.boxes, transform_boxes(geometry.matrix, picture.targets.boxes), atol=1e-4)
    assert sample.source_size == size


@pytest.mark.parametrize(
    "affine",
    [
        AffineParams(),
        AffineParams(zoom=1.7, shift=(0.1, -0.1)),
        AffineParams(zoom=0.4),
        AffineParams(perspective=(0.003, -0.002)),  # of the whole scene: applied after the crop it would show grey
    ],
)
@pytest.mark.parametrize("degrees", [0.0, 17.0])
def test_a_mosaic_is_its_four_tiles_warped_separately(affine: AffineParams, degrees: float) -> None:
    """Pixel by pixel against plain arithmetic: where a canvas pixel comes from, and what lies there."""
    pictures = Pictures([source(0, 60, 40), source(1, 40, 60), source(2, 128, 128), source(3, 30, 30)])
    params = MosaicParams((70.3, 51.9), (1, 2, 3))
    affine = replace(affine, degrees=degrees)
    view = View(affine_matrix(affine, (2 * S, 2 * S), (S, S)), (S, S))
    scene = Mosaic().arrange(params, Context((S, S), count=4), pictures, view.shows)
    got = render(scene, view, 0).image.astype(float)

    y, x = np.mgrid[:S, :S] + 0.5
    points = transform_points(np.linalg.inv(view.matrix), np.stack([x.ravel(), y.ravel()], 1))
    expected = np.full((S * S, 3), 114.0)
    for number, (right, below) in enumerate([(False, False), (True, False), (False, True), (True, True)]):
        image = pictures.sources[number].image.astype(float)
        height, width = image.shape[:2]
        fit = S / max(width, height)
        inside = ((points[:, 0] >= 70.3) == right) & ((points[:, 1] >= 51.9) == below)
        inside &= (points >= 0).all(1) & (points < 2 * S).all(1)
        at = (points - (70.3, 51.9)) / fit + (0 if right else width, 0 if below else height)
        inside &= (at >= 0).all(1) & (at < (width, height)).all(1)
        expected[inside] = bilinear(image, at[inside])
    difference = np.abs(got.reshape(-1, 3) - expected).max(1)
    assert (difference > 3).sum() == 0


def bilinear(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    x, y = np.clip(at[:, 0] - 0.5, 0, width - 1), np.clip(at[:, 1] - 0.5, 0, height - 1)
    x0, y0 = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    u, v = (x - x0)[:, None], (y - y0)[:, None]
    top = image[y0, x0] * (1 - u) + image[y0, x0 + 1] * u
    return top * (1 - v) + (image[y0 + 1, x0] * (1 - u) + image[y0 + 1, x0 + 1] * u) * v


def test_hidden_tiles_are_not_even_read() -> None:
    pictures = Pictures([source(0, 60, 40), source(1, 40, 60), source(2, 64, 64), source(3, 30, 30)])
    view = View(affine_matrix(AffineParams(zoom=1.9), (2 * S, 2 * S), (S, S)), (S, S))
    scene = Mosaic().arrange(MosaicParams((33.0, 33.0), (1, 2, 3)), Context((S, S), count=4), pictures, view.shows)
    sample = render(scene, view, 0)
    assert pictures.seen == [3]
    assert sample.source_size == (60, 40)


def test_shrinking_keeps_the_labels_of_visible_boxes() -> None:
    boxes = [[0, 0, 30, 30], [10, 10, 60, 50], [40, 5, 64, 20]]
    sample = Sample(smooth(S, S), Targets(np.array(boxes, np.float32), np.arange(3)), 0, (S, S))
    small = STILL.apply(sample, AffineParams(zoom=0.2))
    assert small.targets.labels.tolist() == [0, 1, 2]


def test_boxes_are_dropped_for_a_reason() -> None:
    whole = np.array([[0, 0, 10, 10], [-91, 0, 9, 10], [-89, 0, 11, 10], [0, 0, 1.9, 10], [0, 0, 300, 2.9]], float)
    kept = worth_keeping(clip_boxes(whole, (0, 0, 300, 300)), whole)
    assert kept.tolist() == [True, False, True, False, False]


def test_tile_borders_cut_boxes() -> None:
    """A box that the scene's edge cuts ends there, and its label goes when too little is left."""
    pictures = Pictures([source(0, 64, 64, [[0, 0, 64, 64], [0, 0, 12, 12]]), *(source(i, 64, 64) for i in (1, 2, 3))])
    view = View(affine_matrix(AffineParams(zoom=0.5), (2 * S, 2 * S), (S, S)), (S, S))
    scene = Mosaic().arrange(MosaicParams((40, 40), (1, 2, 3)), Context((S, S), count=4), pictures, view.shows)
    targets = render(scene, view, 0).targets
    np.testing.assert_allclose(targets.boxes, [[0, 0, 20, 20]])


def test_move_targets_without_any() -> None:
    assert len(move_targets(Targets.empty(), np.eye(3), (S, S))) == 0


def test_a_decoder_may_hand_out_a_smaller_picture() -> None:
    """Boxes and layout count in ``size``; the pixels are stretched to it."""
    full = source(0, 128, 96, [[8, 8, 64, 64]])
    half = Source(0, smooth(64, 48), full.targets, full.size)
    pipeline, context = Pipeline((S, S), STILL), Context((S, S))
    plan = pipeline.draw(np.random.default_rng(0), context, mix=False)
    a, b = (pipeline.carry_out(plan, context, Pictures([picture])) for picture in (full, half))
    np.testing.assert_array_equal(a.targets.boxes, b.targets.boxes)
    geometry = letterbox_geometry(full.size, (S, S))
    np.testing.assert_allclose(b.matrix, geometry.matrix)
    np.testing.assert_array_equal((a.image == 114).all((1, 2)), (b.image == 114).all((1, 2)))
