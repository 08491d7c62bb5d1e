"""What must hold for every drawn sample, whatever the options."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo.data.augment.affine import AffineParams, RandomPerspective, affine_matrix
from yolo.data.augment.base import Context
from yolo.data.augment.configured import build_pipeline
from yolo.data.augment.flip import FlipParams, RandomFlip
from yolo.data.augment.geometry import transform_boxes, transform_points
from yolo.data.augment.mosaic import Mosaic, MosaicParams
from yolo.data.augment.mosaic9 import Mosaic9
from yolo.data.augment.scene import Source, View, render
from yolo.data.config import DataConfig
from yolo.data.types import Sample, Targets

SIZES = [(96, 64), (64, 96), (128, 128), (40, 200), (33, 21)]
CANVAS = (64, 96)

options = st.fixed_dictionaries(
    {
        "degrees": st.sampled_from([0.0, 10.0, 180.0]),
        "shear": st.sampled_from([0.0, 20.0]),
        "perspective": st.sampled_from([0.0, 0.001, 0.1]),
        "scale": st.sampled_from([0.0, 0.5, 0.99]),
        "translate": st.sampled_from([0.0, 0.1, 1.0]),
        "mosaic_prob": st.sampled_from([0.0, 1.0]),
        "mosaic_9_prob": st.sampled_from([0.0, 0.5]),
        "mixup_prob": st.sampled_from([0.0, 0.5]),
        "flip_lr": st.sampled_from([0.0, 0.5]),
        "flip_ud": st.sampled_from([0.0, 0.5]),
    }
)
affines = st.builds(
    AffineParams,
    zoom=st.floats(0.05, 1.99),
    shift=st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)),
)


class Sources:
    """Made-up pictures; box i of picture k has the label 100 k + i, so that identities show."""

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Source:
        rng = np.random.default_rng(index)
        width, height = SIZES[index]
        start = rng.uniform(0, 0.8, (6, 2)) * (width, height)
        end = np.minimum(start + rng.uniform(0.02, 0.6, (6, 2)) * (width, height), (width, height))
        boxes = np.concatenate([start, end], 1).astype(np.float32)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        return Source(index, image, Targets(boxes, 100 * index + np.arange(6)), (width, height))

    def size(self, index: int) -> tuple[int, int]:
        return SIZES[index]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), chosen=options)
def test_boxes_are_sound_and_keep_their_identity(seed: int, chosen: dict[str, Any]) -> None:
    pipeline = build_pipeline(DataConfig(image_size=CANVAS, **chosen))
    context = Context(CANVAS, index=seed % 5, count=5)
    plan = pipeline.draw(np.random.default_rng(seed), context, mix=True)
    sample = pipeline.carry_out(plan, context, Sources())
    boxes, labels = sample.targets.boxes, sample.targets.labels
    assert sample.image.shape == (CANVAS[1], CANVAS[0], 3) and sample.image.dtype == np.uint8
    assert boxes.dtype == np.float32 and labels.dtype == np.int64 and boxes.shape == (len(labels), 4)
    assert np.isfinite(boxes).all() and np.isfinite(sample.matrix).all()
    assert (boxes >= 0).all() and (boxes <= (*CANVAS, *CANVAS)).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1.99).all()
    pictures = [plan.picture, *(partner for _, partners, _ in plan.mixes for partner in partners)]
    known = {index for picture in pictures for index in (picture.index, *getattr(picture.arrangement, "partners", ()))}
    assert set((labels // 100).tolist()) <= known
    if not chosen["mosaic_prob"]:
        assert len(set(labels.tolist())) == len(labels)
        original = Sources().read(context.index).targets
        moved = transform_boxes(sample.matrix, original.boxes[labels % 100])
        inside = np.clip(moved, 0, (*CANVAS, *CANVAS))
        assert (np.abs(inside - boxes) < 1e-2).all()


@settings(max_examples=80, deadline=None)
@given(nine=st.booleans(), centre=st.tuples(st.floats(0, 1), st.floats(0, 1)), affine=affines)
def test_every_missing_label_of_a_mosaic_is_explained(
    nine: bool, centre: tuple[float, float], affine: AffineParams
) -> None:
    """Count the labels by simple arithmetic: scale, place, cut to the scene's tile and to the canvas."""
    n, layout = (3, Mosaic9()) if nine else (2, Mosaic())
    middle = [side * (1 + (2 * share - 1) / n) for side, share in zip(CANVAS, centre, strict=True)]
    cell = [2 * side / n for side in CANVAS]
    view = View(affine_matrix(affine, (2 * CANVAS[0], 2 * CANVAS[1]), CANVAS), CANVAS)
    partners = [1, 2, 3, 4, 1, 2, 3, 4] if nine else [1, 2, 3]
    own = 4 if nine else 0
    params = MosaicParams((middle[0], middle[1]), tuple(partners))
    scene = layout.arrange(params, Context(CANVAS, index=0, count=5), Sources(), view)
    found = list(zip(*_by_label(render(scene, view, 0)), strict=True))
    for place, index in enumerate([*partners[:own], 0, *partners[own:]]):
        source = Sources().read(index)
        fit = min(cell[axis] / source.size[axis] for axis in (0, 1))
        tile, begin = [], []
        for axis, step in enumerate(divmod(place, n)[::-1]):
            lines = [0.0, middle[axis] - cell[axis] / 2, middle[axis] + cell[axis] / 2, 2.0 * CANVAS[axis]]
            low, high = lines[step : step + 2] if nine else [(0.0, middle[axis]), (middle[axis], lines[-1])][step]
            long = fit * source.size[axis]
            begin.append(low if step == n - 1 else high - long if step == 0 else middle[axis] - long / 2)
            tile.append((low, high))
        for number, (x0, y0, x1, y1) in enumerate(source.targets.boxes.astype(float).tolist()):
            across = _seen(begin[0] + fit * x0, begin[0] + fit * x1, affine, 0, tile[0])
            down = _seen(begin[1] + fit * y0, begin[1] + fit * y1, affine, 1, tile[1])
            whole = fit * affine.zoom * (x1 - x0) * fit * affine.zoom * (y1 - y0)
            sides = across[1] - across[0], down[1] - down[0]
            wanted = min(sides) >= 2 and sides[0] * sides[1] > 0.1 * whole and max(sides) < 100 * min(sides)
            box = [across[0], down[0], across[1], down[1]]
            same = [item for item in found if item[0] == 100 * index + number and np.allclose(item[1], box, atol=1e-2)]
            if min(abs(min(sides) - 2), abs(sides[0] * sides[1] / whole - 0.1)) > 1e-3:  # else either is right
                assert bool(same) == wanted
            if same:
                found.remove(same[0])
    assert not found


def _by_label(sample: Sample) -> tuple[list[int], list[list[float]]]:
    return sample.targets.labels.tolist(), sample.targets.boxes.tolist()


def _seen(low: float, high: float, affine: AffineParams, axis: int, tile: tuple[float, float]) -> tuple[float, float]:
    """One side of a box: cut to its tile, seen through the zoom and shift, cut to the canvas."""
    side = CANVAS[axis]
    ends = []
    for value in (low, high):
        value = min(max(value, tile[0]), tile[1])
        value = (value - side) * affine.zoom + side * (0.5 + affine.shift[axis])
        ends.append(min(max(value, 0.0), float(side)))
    return ends[0], max(ends)


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 4), across=st.booleans(), down=st.booleans())
def test_flipping_twice_is_the_identity(index: int, across: bool, down: bool) -> None:
    source = Sources().read(index)
    sample = Sample(source.image, source.targets, index, source.size)
    flip, params = RandomFlip(), FlipParams(across, down)
    back = flip.apply(flip.apply(sample, params), params)
    np.testing.assert_array_equal(back.image, sample.image)
    np.testing.assert_allclose(back.targets.boxes, sample.targets.boxes, atol=1e-4)
    np.testing.assert_allclose(back.matrix, sample.matrix, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), scene=st.sampled_from([CANVAS, (128, 192)]))
def test_a_drawn_view_can_be_undone(seed: int, scene: tuple[int, int]) -> None:
    affine = RandomPerspective(degrees=180, shear=30, perspective=0.1, scale=0.99, translate=0.5)
    matrix = affine_matrix(affine.draw(np.random.default_rng(seed), Context(CANVAS)), scene, CANVAS)
    points = np.random.default_rng(seed).uniform(0, 1, (8, 2)) * scene
    back = transform_points(np.linalg.inv(matrix), transform_points(matrix, points))
    np.testing.assert_allclose(back, points, atol=1e-5)
