"""The order of augmentations, their probabilities, and what a configuration turns into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from yolo.core.errors import UsageError
from yolo.core.plugins import registry
from yolo.data.augment.affine import RandomPerspective
from yolo.data.augment.base import Augmentation, BatchAugmentation, Context, MixAugmentation
from yolo.data.augment.configured import build_pipeline
from yolo.data.augment.flip import FlipParams, RandomFlip
from yolo.data.augment.hsv import HSVParams, RandomHSV
from yolo.data.augment.mixup import MixUp
from yolo.data.augment.mosaic import Mosaic
from yolo.data.augment.pipeline import Chance, Pipeline
from yolo.data.augment.scene import Source
from yolo.data.config import DataConfig
from yolo.data.testing.augmentations import AugmentationContract, make_samples
from yolo.data.types import Sample, Targets

S = 64


@dataclass(frozen=True)
class Share:
    share: float


class Blend(MixAugmentation[Share]):
    """What MixUp will look like."""

    def draw(self, rng: np.random.Generator, context: Context) -> Share:
        return Share(float(rng.beta(8, 8)))

    def apply(self, sample: Sample, others: Sequence[Sample], params: Share) -> Sample:
        (other,) = others
        image = (sample.image * params.share + other.image * (1 - params.share)).astype(np.uint8)
        boxes = np.concatenate([sample.targets.boxes, other.targets.boxes])
        labels = np.concatenate([sample.targets.labels, other.targets.labels])
        return replace(sample, image=image, targets=Targets(boxes, labels))


class OnlyMosaics(Blend):
    pictures = "mosaic"


class OnlySingle(Blend):
    pictures = "single"


class Reverse(BatchAugmentation[None]):
    def draw(self, rng: np.random.Generator, context: Context) -> None:
        return None

    def apply(self, samples: Sequence[Sample], params: None) -> list[Sample]:
        return list(samples)[::-1]


class Count(Augmentation[Share]):
    """Counts into the first pixel, so that a test sees that it ran."""

    def draw(self, rng: np.random.Generator, context: Context) -> Share:
        return Share(0)

    def apply(self, sample: Sample, params: Share) -> Sample:
        return replace(sample, image=np.full_like(sample.image, 7))


class TestHSV(AugmentationContract):
    @pytest.fixture
    def augmentation(self) -> RandomHSV:
        return RandomHSV()


class TestFlip(AugmentationContract):
    @pytest.fixture
    def augmentation(self) -> RandomFlip:
        return RandomFlip(left_right=0.5, up_down=0.5)


class TestAffine(AugmentationContract):
    @pytest.fixture
    def augmentation(self) -> RandomPerspective:
        return RandomPerspective(degrees=30, shear=10, perspective=0.001)


class TestBlend(AugmentationContract):
    @pytest.fixture
    def augmentation(self) -> Blend:
        return Blend()


class TestReverse(AugmentationContract):
    @pytest.fixture
    def augmentation(self) -> Reverse:
        return Reverse()


def test_the_contract_catches_what_it_should() -> None:
    class Global(Count):
        def draw(self, rng: np.random.Generator, context: Context) -> Share:
            return Share(float(np.random.random()))  # the mistake

        def apply(self, sample: Sample, params: Share) -> Sample:
            sample.image[0, 0] = 9
            boxes = sample.targets.boxes + np.float32(100 * params.share)
            return replace(sample, image=sample.image.astype(np.float32), targets=Targets(boxes, sample.targets.labels))

    contract = AugmentationContract()
    for name in ("global_random_state_is_left_alone", "input_is_not_written_to", "image_keeps_type_and_shape"):
        with pytest.raises(AssertionError):
            getattr(contract, f"test_{name}")(Global())
    with pytest.raises(AssertionError):
        contract.test_boxes_stay_inside(Global())


def test_hue_saturation_value_of_a_known_colour() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[:] = (200, 100, 100)  # hue 0, saturation 0.5, value 200
    sample = replace(make_samples(0)[0], image=image)
    darker = RandomHSV().apply(sample, HSVParams(value=0.5)).image[0, 0].tolist()
    assert np.abs(np.subtract(darker, (100, 50, 50))).max() <= 1
    purer = RandomHSV().apply(sample, HSVParams(saturation=2.0)).image[0, 0].tolist()
    assert np.abs(np.subtract(purer, (200, 0, 0))).max() <= 2
    assert RandomHSV().apply(sample, HSVParams()) is sample


@pytest.mark.parametrize("params", [FlipParams(True, False), FlipParams(False, True), FlipParams(True, True)])
def test_flip_mirrors_pixels_boxes_and_matrix_alike(params: FlipParams) -> None:
    sample = make_samples(1)[0]
    flipped = RandomFlip().apply(sample, params)
    step = (-1 if params.up_down else 1, -1 if params.left_right else 1)
    np.testing.assert_array_equal(flipped.image, sample.image[:: step[0], :: step[1]])
    x, y = (sample.targets.boxes[0, :2] + sample.targets.boxes[0, 2:]) / 2
    middle = flipped.matrix @ [x, y, 1]
    np.testing.assert_allclose(middle[:2], (flipped.targets.boxes[0, :2] + flipped.targets.boxes[0, 2:]) / 2, rtol=1e-5)


class Four:
    """Four plain sources."""

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Source:
        targets = Targets(np.array([[8, 8, 56, 56]], np.float32), np.array([index]))
        return Source(index, np.full((S, S, 3), 40 * index + 20, np.uint8), targets, (S, S))

    def size(self, index: int) -> tuple[int, int]:
        return S, S


def pipeline(**changes: object) -> Pipeline:
    still = RandomPerspective(translate=0, scale=0)
    return replace(Pipeline((S, S), still, layouts=[Chance(Mosaic())]), **changes)  # type: ignore[arg-type]


def make(pipe: Pipeline, seed: int, *, mix: bool = True) -> Sample:
    context = Context((1, 1), index=seed % 4, count=4)
    return pipe.carry_out(pipe.draw(np.random.default_rng(seed), context, mix=mix), context, Four())


def test_mosaic_probability_and_closing() -> None:
    half = pipeline(layouts=[Chance(Mosaic(), 0.5)])
    plans = [half.draw(np.random.default_rng(i), Context((S, S), count=4), mix=True) for i in range(400)]
    assert 160 < sum(isinstance(plan.picture.layout, Mosaic) for plan in plans) < 240
    closed = pipeline(mixes=[Chance(Blend())]).draw(np.random.default_rng(0), Context((S, S)), mix=False)
    assert not isinstance(closed.picture.layout, Mosaic) and not closed.mixes
    assert np.unique(make(pipeline(), 1, mix=False).image).tolist() == [60]


def test_mosaic_centre_is_random() -> None:
    """An earlier implementation always met in the middle."""
    context = Context((S, S), count=4)
    centres = np.array([Mosaic().draw(np.random.default_rng(i), context).centre for i in range(500)])
    assert centres.min() >= S / 2 and centres.max() <= 1.5 * S
    np.testing.assert_allclose(centres.mean(0), S, atol=3)
    np.testing.assert_allclose(centres.std(0), S / np.sqrt(12), atol=2)
    partners = [Mosaic().draw(np.random.default_rng(i), context).partners for i in range(100)]
    assert {index for three in partners for index in three} == {0, 1, 2, 3}


def test_mixes_see_the_pictures_that_they_are_for() -> None:
    mosaic = pipeline(mixes=[Chance(OnlyMosaics()), Chance(OnlySingle())])
    single = replace(mosaic, layouts=[])
    context = Context((S, S), count=4)
    for pipe, wanted in ((mosaic, OnlyMosaics), (single, OnlySingle)):
        plan = pipe.draw(np.random.default_rng(3), context, mix=True)
        assert [type(mix) for mix, _, _ in plan.mixes] == [wanted]
        assert plan.mixes[0][1][0].layout is plan.picture.layout
    blended = make(single, 2)
    assert len(blended.targets) == 2


def test_plans_hold_everything_random() -> None:
    pipe = build_pipeline(DataConfig(image_size=S, degrees=5.0))
    context = Context((S, S), index=1, count=4)
    plan = pipe.draw(np.random.default_rng(5), context, mix=True)
    first, second = (pipe.carry_out(plan, context, Four()) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.targets.boxes, second.targets.boxes)


def test_probability_of_a_sample_augmentation() -> None:
    pipe = pipeline(layouts=[], samples=[Chance(Count(), 0.3)])
    ran = sum(bool((make(pipe, seed).image == 7).all()) for seed in range(300))
    assert 60 < ran < 120


def test_configuration_order_and_switches() -> None:
    built = build_pipeline(DataConfig(image_size=[96, S], augmentations=[{"use": "flip", "p": 0.3, "up_down": 1.0}]))  # type: ignore[arg-type]
    assert built.size == (96, S)
    assert [type(chance.what) for chance in built.samples] == [RandomFlip, RandomHSV, RandomFlip]
    assert built.samples[0].p == 0.3
    assert isinstance(built.samples[0].what, RandomFlip) and built.samples[0].what.up_down == 1.0
    plain = build_pipeline(DataConfig(hsv_h=0, hsv_s=0, hsv_v=0, flip_lr=0))
    assert not plain.samples


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"use": "flipp"}, "flip"),
        ({"use": "flip", "sideways": 1}, r"augmentations\[0\].*sideways"),
        ({"use": "mosaic"}, r"augmentations\[0\].*Mosaic.*data\.mosaic_prob"),
        ({"use": "bbox_mosaic"}, r"augmentations\[0\].*BBoxMosaic.*bbox_mosaic"),
        ({"use": "pathlib.Path"}, r"augmentations\[0\].*Path"),
    ],
)
def test_wrong_entries_are_usage_errors(entry: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_pipeline(DataConfig(augmentations=[entry]))


def test_every_registered_augmentation_has_a_base_and_its_stage() -> None:
    for spec in registry("augmentations").specs():
        loaded = registry("augmentations").load(spec.name)
        assert loaded.stage == spec.stage, spec.name  # type: ignore[attr-defined]


def test_the_names_of_the_specification() -> None:
    """Class names, under which the documentation and class paths know them."""
    loaded = {name: registry("augmentations").load(name) for name in registry("augmentations").names()}
    names = {getattr(thing, "__name__", "") for thing in loaded.values()}
    wanted = "LetterBox Mosaic Mosaic9 BBoxMosaic MixUp CutMix RandomPerspective RandomHSV RandomFlip"
    assert set(wanted.split()) <= names


def test_mixup_can_be_placed_by_hand() -> None:
    built = build_pipeline(DataConfig(mixup_prob=0, augmentations=[{"use": "mixup", "p": 0.4, "alpha": 8.0}]))
    assert [(type(chance.what), chance.p) for chance in built.mixes] == [(MixUp, 0.4)]


def test_partners_may_be_taken_from_a_pool() -> None:
    context = Context((S, S), index=3, count=1000, pool=(5, 7, 900))
    pipe = build_pipeline(DataConfig(image_size=S, mixup_prob=1.0, mosaic_9_prob=0.5, bbox_mosaic={"prob": 0.3}))  # type: ignore[arg-type]
    found = set()
    for seed in range(60):
        plan = pipe.draw(np.random.default_rng(seed), context, mix=True)
        for picture in (plan.picture, *(partner for _, partners, _ in plan.mixes for partner in partners)):
            found |= set(getattr(picture.arrangement, "partners", ()))
            found |= {item.index for item in getattr(picture.arrangement, "documents", ())[1:]}
    assert found == {5, 7, 900}
