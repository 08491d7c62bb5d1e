"""MixUp and CutMix: what they do to pixels and boxes, and which pictures they are for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolo.data.augment.base import Context
from yolo.data.augment.bbox_mosaic import BBoxMosaic
from yolo.data.augment.configured import build_pipeline
from yolo.data.augment.cutmix import CutMix, CutMixParams, remainder
from yolo.data.augment.letterbox import LetterBox
from yolo.data.augment.mixup import MixUp, MixUpParams
from yolo.data.augment.mosaic import Mosaic
from yolo.data.augment.mosaic9 import Mosaic9
from yolo.data.augment.pipeline import Plan
from yolo.data.config import DataConfig
from yolo.data.testing.augmentations import AugmentationContract, make_samples
from yolo.data.testing.pictures import Pictures, flat_picture
from yolo.data.types import Sample, Targets

S = 64
CONTEXT = Context((S, S), index=0, count=6)
PICTURES = Pictures([flat_picture(index, (S, S), [(8, 8, 56, 56)]) for index in range(6)])


class TestMixUp(AugmentationContract):
    @pytest.fixture
    def augmentation(self) -> MixUp:
        return MixUp()


class TestCutMix(AugmentationContract):
    @pytest.fixture
    def augmentation(self) -> CutMix:
        return CutMix()


def plans(count: int = 200, *, mix: bool = True, **options: object) -> list[Plan]:
    pipeline = build_pipeline(DataConfig(image_size=S, **options))  # type: ignore[arg-type]
    return [pipeline.draw(np.random.default_rng(seed), CONTEXT, mix=mix) for seed in range(count)]


def used(plan: Plan) -> list[type]:
    return [type(mix) for mix, _, _ in plan.mixes]


def picture(colour: int, boxes: list[list[float]], labels: list[int] | None = None) -> Sample:
    targets = Targets(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels or range(len(boxes)), np.int64))
    return Sample(np.full((S, S, 3), colour, np.uint8), targets, colour, (S, S))


def test_mixup_blends_and_keeps_the_boxes_of_both() -> None:
    first, second = picture(200, [[0, 0, 9, 9]], [1]), picture(100, [[5, 5, 30, 30], [0, 0, 9, 9]], [2, 1])
    done = MixUp().apply(first, [second], MixUpParams(0.25))
    assert np.unique(done.image).tolist() == [125] and done.image.dtype == np.uint8
    np.testing.assert_array_equal(done.targets.boxes, [[0, 0, 9, 9], [5, 5, 30, 30], [0, 0, 9, 9]])
    assert done.targets.labels.tolist() == [1, 2, 1]
    assert (done.index, done.source_size) == (first.index, first.source_size)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 32.0])
def test_mixup_alpha_is_used(alpha: float) -> None:
    """An earlier implementation ignored it: the spread of Beta(a, a) is 1 / (2 sqrt(2 a + 1))."""
    (mixup,) = [
        chance.what for chance in build_pipeline(DataConfig(mixup_alpha=alpha)).mixes if isinstance(chance.what, MixUp)
    ]
    weights = [mixup.draw(np.random.default_rng(seed), CONTEXT).weight for seed in range(1500)]
    assert np.mean(weights) == pytest.approx(0.5, abs=0.03)
    assert np.std(weights) == pytest.approx(0.5 / np.sqrt(2 * alpha + 1), rel=0.1)


def test_mixup_never_without_a_mosaic() -> None:
    assert not any(plan.mixes for plan in plans(mosaic_prob=0.0, mixup_prob=1.0))
    assert not any(plan.mixes for plan in plans(mosaic_prob=0.0, mixup_prob=1.0, bbox_mosaic={"prob": 1.0}))
    some = plans(mosaic_prob=0.5, mosaic_9_prob=0.5, mixup_prob=1.0)
    for plan in some:
        assert used(plan) == ([MixUp] if isinstance(plan.picture.layout, Mosaic) else [])
        for _, partners, _ in plan.mixes:
            assert [type(partner.layout) for partner in partners] == [type(plan.picture.layout)]
    assert {type(plan.picture.layout) for plan in some} == {Mosaic, Mosaic9, LetterBox}


def test_mixup_probability_counts_among_mosaics() -> None:
    assert 0.1 < np.mean([bool(plan.mixes) for plan in plans(1000)]) < 0.2, "0.15 is the default"


def test_cutmix_only_without_a_mosaic() -> None:
    options = {"mosaic_prob": 0.4, "cutmix_prob": 1.0, "mixup_prob": 1.0, "bbox_mosaic": {"prob": 0.3}}
    kinds = {LetterBox: [CutMix], Mosaic: [MixUp], BBoxMosaic: []}
    some = plans(**options)
    for plan in some:
        assert used(plan) == kinds[type(plan.picture.layout)]
    assert {type(plan.picture.layout) for plan in some} == set(kinds)


@pytest.mark.parametrize("m", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
def test_mosaic_9_prob_is_a_share_of_the_mosaics(m: float, q: float) -> None:
    names = [type(plan.picture.layout) for plan in plans(1000, mosaic_prob=m, mosaic_9_prob=q)]
    assert names.count(Mosaic9) / 1000 == pytest.approx(m * q, abs=0.05)
    assert names.count(Mosaic) / 1000 == pytest.approx(m * (1 - q), abs=0.05)


def test_the_closing_epochs_show_single_pictures() -> None:
    everything = {"mosaic_9_prob": 0.5, "mixup_prob": 1.0, "cutmix_prob": 1.0, "bbox_mosaic": {"prob": 0.5}}
    for plan in plans(mix=False, **everything):
        assert isinstance(plan.picture.layout, LetterBox) and not plan.mixes


def test_cutmix_copies_the_region_and_nothing_else() -> None:
    first, second = picture(200, [[10, 10, 30, 30]], [1]), picture(100, [[0, 0, S, S], [40, 0, 60, 20]], [2, 3])
    done = CutMix().apply(first, [second], CutMixParams((0, 20, 50, 60)))
    expected = first.image.copy()
    expected[20:60, 0:50] = 100
    np.testing.assert_array_equal(done.image, expected)
    boxes = dict(zip(done.targets.labels.tolist(), done.targets.boxes.tolist(), strict=True))
    assert boxes == {1: [10, 10, 30, 20], 2: [0, 20, 50, 60]}, "3 lies above the region"
    unchanged = CutMix().apply(first, [second], CutMixParams((5, 9, 5, 30)))
    assert unchanged is first


@pytest.mark.parametrize(
    ("cover", "left"),
    [
        ((0, 0, 5, 5), [10, 10, 30, 30]),  # beside it
        ((0, 0, 20, 20), [10, 10, 30, 30]),  # a corner: the outline stays
        ((15, 15, 20, 20), [10, 10, 30, 30]),  # a hole
        ((10, 0, 30, 15), [10, 15, 30, 30]),  # the top
        ((0, 25, 64, 64), [10, 10, 30, 25]),  # the bottom
        ((0, 10, 12, 30), [12, 10, 30, 30]),  # the left
        ((28, 0, 64, 64), [10, 10, 28, 30]),  # the right
        ((15, 0, 20, 64), [10, 10, 30, 30]),  # a bar through the middle
    ],
)
def test_what_a_cover_leaves_of_a_box(cover: tuple[int, int, int, int], left: list[int]) -> None:
    np.testing.assert_array_equal(remainder(np.array([[10, 10, 30, 30]], np.float32), cover), [left])


def test_covered_boxes_lose_their_label() -> None:
    """By the area that shows, which is not that of the outline where the middle is covered."""
    first = picture(200, [[10, 10, 30, 30], [0, 0, 40, 40], [9, 9, 31, 31]])
    done = CutMix().apply(first, [picture(100, [])], CutMixParams((10, 10, 30, 30)))
    assert done.targets.labels.tolist() == [1, 2], "the last is a rim of a sixth of its area"
    done = CutMix().apply(first, [picture(100, [])], CutMixParams((1, 1, 40, 40)))
    assert not len(done.targets), "a rim of a twentieth"


def test_cutmix_regions_are_random_and_inside() -> None:
    """A uniform share of the area (before the border cuts), a uniform middle (Yun et al., section 3.1)."""
    context = replace(CONTEXT, size=(400, 200))
    regions = np.array([CutMix().draw(np.random.default_rng(seed), context).region for seed in range(800)])
    assert (regions[:, :2] >= 0).all() and (regions[:, 2:] <= (400, 200)).all()
    assert (regions[:, 2:] >= regions[:, :2]).all()
    sides = (regions[:, 2:] - regions[:, :2]) / (400, 200)
    inside = (regions[:, :2] > 0).all(1) & (regions[:, 2:] < (400, 200)).all(1)
    assert np.abs(sides[inside, 0] - sides[inside, 1]).max() < 0.02, "of the picture's shape where nothing cuts it"
    assert 0.2 < sides.prod(1).mean() < 0.4 and sides.prod(1).max() > 0.8 and sides.prod(1).min() < 0.01


def test_mixed_samples_are_finished_pictures_of_one_size() -> None:
    pipeline = build_pipeline(DataConfig(image_size=S, mosaic_prob=0.5, mixup_prob=1.0, cutmix_prob=1.0))
    for seed in range(20):
        sample = pipeline.carry_out(pipeline.draw(np.random.default_rng(seed), CONTEXT, mix=True), CONTEXT, PICTURES)
        assert sample.image.shape == (S, S, 3) and sample.index == 0


def test_inputs_stay_as_they_are() -> None:
    first, second = make_samples(0)[:2]
    before = first.image.copy(), second.image.copy()
    CutMix().apply(first, [second], CutMixParams((0, 0, 30, 30)))
    np.testing.assert_array_equal(first.image, before[0])
    np.testing.assert_array_equal(second.image, before[1])
