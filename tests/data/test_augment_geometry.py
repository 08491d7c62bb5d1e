"""Matrices, the one warp, and boxes: stated parameters give computed places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolo.core.letterbox import letterbox, letterbox_geometry
from yolo.data.augment.affine import AffineParams, RandomPerspective, affine_matrix
from yolo.data.augment.base import Context
from yolo.data.augment.geometry import (
    clip_boxes,
    corners,
    move_targets,
    transform_boxes,
    transform_points,
    worth_keeping,
)
from yolo.data.augment.letterbox import LetterBox, NoParams
from yolo.data.augment.mosaic import Mosaic, MosaicParams
from yolo.data.augment.mosaic9 import Mosaic9
from yolo.data.augment.paint import blank, paint
from yolo.data.augment.pipeline import Pipeline
from yolo.data.augment.scene import Scene, Source, Tile, View, render
from yolo.data.testing.pictures import Pictures
from yolo.data.types import Sample, Targets

S = 64
STILL = RandomPerspective(degrees=0, translate=0, scale=0)


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
    paint(plain, image, matrix, corners((3, 6, 45, 40)))
    nearly = corners((3, 6, 45, 40)) + np.array([[0, 1e-9], [1e-9, 0], [0, -1e-9], [-1e-9, 0]])
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
@pytest.mark.parametrize("layout", [Mosaic(), Mosaic9()], ids=["four", "nine"])
def test_a_mosaic_is_its_tiles_warped_separately(layout: Mosaic, affine: AffineParams, degrees: float) -> None:
    """Pixel by pixel against plain arithmetic: where a canvas pixel comes from, and what lies there."""
    sizes = [(60, 40), (40, 60), (128, 128), (30, 30), (90, 50), (20, 70), (64, 64), (33, 47), (100, 99)]
    pictures = Pictures([source(number, *size) for number, size in enumerate(sizes)])
    middle = (70.3, 51.9)
    params = MosaicParams(middle, (1, 2, 3) if layout.grid == 2 else (1, 2, 3, 4, 5, 6, 7, 8))
    affine = replace(affine, degrees=degrees)
    view = View(affine_matrix(affine, (2 * S, 2 * S), (S, S)), (S, S))
    scene = layout.arrange(params, Context((S, S), count=9), pictures, view)
    got = render(scene, view, 0).image.astype(float)

    y, x = np.mgrid[:S, :S] + 0.5
    points = transform_points(np.linalg.inv(view.matrix), np.stack([x.ravel(), y.ravel()], 1))
    expected = np.full((S * S, 3), 114.0)
    cell = 2 * S / layout.grid
    lines = [(0.0, m, 2.0 * S) if layout.grid == 2 else (0.0, m - cell / 2, m + cell / 2, 2.0 * S) for m in middle]
    order = [0, 1, 2, 3] if layout.grid == 2 else [1, 2, 3, 4, 0, 5, 6, 7, 8]
    for place, number in enumerate(order):
        row, column = divmod(place, layout.grid)
        image = pictures.sources[number].image.astype(float)
        height, width = image.shape[:2]
        fit = cell / max(width, height)
        inside, start = np.ones(S * S, bool), []
        for axis, (step, side) in enumerate(((column, width), (row, height))):
            low, high = lines[axis][step : step + 2]
            inside &= (points[:, axis] >= low) & (points[:, axis] < high)
            last = step == layout.grid - 1
            start.append(high - fit * side if step == 0 else low if last else middle[axis] - fit * side / 2)
        at = (points - start) / fit
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
    scene = Mosaic().arrange(MosaicParams((33.0, 33.0), (1, 2, 3)), Context((S, S), count=4), pictures, view)
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
    scene = Mosaic().arrange(MosaicParams((40, 40), (1, 2, 3)), Context((S, S), count=4), pictures, view)
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


def test_a_reduced_picture_with_a_rest_stays_on_its_pixels() -> None:
    """Half of 101 pixels is 51, which cover 102: stretched to 101 the picture would be out of place."""
    full = source(0, 101, 75)
    padded = np.pad(full.image, ((0, 1), (0, 1), (0, 0)), "edge").astype(float)
    half = padded.reshape(38, 2, 51, 2, 3).mean((1, 3)).astype(np.uint8)
    view = View(np.eye(3), (101, 75))
    scene = [Scene([Tile(replace(full, image=image), np.eye(3))], full.size, np.eye(3)) for image in (full.image, half)]
    a, b = (render(one, view, 0).image.astype(int) for one in scene)
    assert np.abs(a - b).mean() < 2.5
    assert np.abs(a[:, 90:] - b[:, 90:]).mean() < 3


@pytest.mark.parametrize(("canvas", "least"), [((64, 48), (64, 47)), ((32, 32), (32, 23)), ((202, 150), (202, 150))])
def test_a_letterbox_asks_for_what_it_shows(canvas: tuple[int, int], least: tuple[int, int]) -> None:
    pictures = Pictures([source(0, 101, 75)])
    LetterBox().arrange(NoParams(), Context(canvas), pictures, View(np.eye(3), canvas))
    assert pictures.least == [least]


def test_a_picture_is_asked_for_as_large_as_it_appears() -> None:
    """Turned, the sides count as the picture's own; in perspective, where it is nearest."""
    size = (400, 200)
    turned = View(affine_matrix(AffineParams(zoom=0.5, degrees=90), size, size), size)
    assert turned.least(turned.place(np.eye(3), size), size) == (200, 100)
    bent = View(affine_matrix(AffineParams(perspective=(0.001, 0)), size, size), size)
    near = bent.scale_of(np.eye(3), (0, 0, *size))
    ends = transform_points(bent.matrix, np.array([[0, 0], [1e-4, 0]]))
    assert near[0] == pytest.approx(np.hypot(*(ends[1] - ends[0])) * 1e4, rel=1e-3)
    assert bent.scale_of(np.eye(3), (200, 0, *size))[0] < near[0]


def test_only_the_region_counts_where_the_rest_of_a_picture_is_behind_the_eye() -> None:
    """A small part of a large picture, strongly bent: the part is drawn though the picture's corners are inside out."""
    image = np.full((100, 1000, 3), 50, np.uint8)
    matrix = affine_matrix(AffineParams(perspective=(0.01, 0)), (100, 100), (100, 100))
    part = corners((30, 20, 70, 80))
    assert (corners((0, 0, 1000, 100)) @ matrix[2, :2] + matrix[2, 2]).min() > 0 > (-200 * matrix[2, 0] + matrix[2, 2])
    canvas = blank((100, 100))
    paint(canvas, image, matrix @ np.array([[-1, 0, 100], [0, 1, 0], [0, 0, 1]]), transform_points(matrix, part))
    assert (canvas == 50).any() and set(np.unique(canvas).tolist()) == {50, 114}
