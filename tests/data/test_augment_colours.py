"""Colours are changed where there are fewest pixels: every pixel once, as if it were done at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from yolo.data.augment import Augmentation, ColourAugmentation, Context
from yolo.data.augment.affine import RandomPerspective
from yolo.data.augment.hsv import RandomHSV
from yolo.data.augment.letterbox import LetterBox
from yolo.data.augment.mixup import MixUp
from yolo.data.augment.mosaic import Mosaic
from yolo.data.augment.mosaic9 import Mosaic9
from yolo.data.augment.pipeline import Chance, Pipeline
from yolo.data.augment.scene import Layout, Source
from yolo.data.testing.augmentations import AugmentationContract
from yolo.data.types import Sample, Targets

S = 96


class Turn(ColourAugmentation[int]):
    """Red, green and blue change places: to interpolate before or after that is the same to the bit."""

    def __init__(self) -> None:
        self.changed = 0

    def draw(self, rng: np.random.Generator, context: Context) -> int:
        return int(rng.integers(1, 3))

    def recolour(self, pixels: NDArray[np.uint8], params: int, out: NDArray[np.uint8]) -> None:
        self.changed += pixels.size // 3
        out[:] = np.roll(pixels, params, axis=2)


class Tint(ColourAugmentation[None]):
    """Grey does not stay grey."""

    def draw(self, rng: np.random.Generator, context: Context) -> None:
        return None

    def recolour(self, pixels: NDArray[np.uint8], params: None, out: NDArray[np.uint8]) -> None:
        out[:] = pixels // np.array([1, 2, 3], np.uint8)


class TintAtTheEnd(Augmentation[None]):
    def draw(self, rng: np.random.Generator, context: Context) -> None:
        return None

    def apply(self, sample: Sample, params: None) -> Sample:
        return replace(sample, image=sample.image // np.array([1, 2, 3], np.uint8))


class Blinds(Augmentation[None]):
    """Hides every other row: more than colours."""

    def draw(self, rng: np.random.Generator, context: Context) -> None:
        return None

    def apply(self, sample: Sample, params: None) -> Sample:
        image = sample.image.copy()
        image[::2] = 200
        return replace(sample, image=image)


class Noise:
    """Pictures of noise, of different sizes, which nobody may write to."""

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Source:
        width, height = self.size(index)
        image = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        image.flags.writeable = False
        return Source(index, image, self.targets(index), (width, height))

    def size(self, index: int) -> tuple[int, int]:
        return 40 + 17 * index, 90 - 9 * index

    def targets(self, index: int) -> Targets:
        return Targets(np.array([[8, 8, 36, 36]], np.float32), np.array([index]))


class Soft(Noise):
    """Pictures with soft edges."""

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Source:
        noise = super().read(index)
        small = noise.image[:5, :6]
        return replace(noise, image=np.asarray(cv2.resize(small, noise.size, interpolation=cv2.INTER_CUBIC), np.uint8))


def made(pipe: Pipeline, seed: int) -> Sample:
    context = Context((1, 1), index=seed % 5, count=5)
    return pipe.carry_out(pipe.draw(np.random.default_rng(seed), context, mix=True), context, Noise())


def pipeline(*steps: Augmentation[Any], **changes: Any) -> Pipeline:
    zoom = RandomPerspective(translate=0.1, scale=0.9)
    pipe = Pipeline((S, S), zoom, [Chance(Mosaic())], samples=[Chance(step) for step in steps])
    return replace(pipe, **changes)


class TestTint(AugmentationContract):
    @pytest.fixture
    def augmentation(self) -> Tint:
        return Tint()


@pytest.mark.parametrize("layout", [LetterBox(), Mosaic(), Mosaic9()], ids=lambda layout: type(layout).__name__)
@pytest.mark.parametrize("view", [{}, {"degrees": 30.0}, {"perspective": 0.001}], ids=["upright", "turned", "tilted"])
def test_every_pixel_is_changed_once(layout: Layout[Any], view: dict[str, float]) -> None:
    changes = {"layouts": [Chance(layout)], "affine": RandomPerspective(translate=0.1, scale=0.9, **view)}
    turn, plain = pipeline(Turn(), **changes), pipeline(**changes)
    for seed in range(30):
        wanted = made(plain, seed)
        by = turn.draw(np.random.default_rng(seed), Context((1, 1), index=seed % 5, count=5), mix=True).steps[0][1]
        got = made(turn, seed)
        np.testing.assert_array_equal(got.image, np.roll(wanted.image, by, axis=2))
        np.testing.assert_array_equal(got.targets.boxes, wanted.targets.boxes)


def test_the_border_changes_with_the_rest() -> None:
    small = RandomPerspective(translate=0.0, scale=0.0)
    for steps in ([Tint()], [Tint(), Tint()]):
        early = made(pipeline(*steps, layouts=[], affine=small), 3).image
        late = made(pipeline(*[TintAtTheEnd() for _ in steps], layouts=[], affine=small), 3).image
        assert early[0, 0].tolist() == late[0, 0].tolist() != [114, 114, 114]
        assert np.abs(early.astype(int) - late).max() <= 1


def test_only_what_comes_first_is_done_early() -> None:
    """Behind a step that does more than change colours, or a mix, the order stays."""
    for seed in range(5):
        after_blinds = made(pipeline(Blinds(), Tint()), seed).image
        np.testing.assert_array_equal(after_blinds, made(pipeline(Blinds(), TintAtTheEnd()), seed).image)
        assert (after_blinds[::2] == (200, 100, 66)).all()
        mixed = [made(pipeline(step, mixes=[Chance(MixUp())]), seed).image for step in (Tint(), TintAtTheEnd())]
        np.testing.assert_array_equal(*mixed)
        assert (made(pipeline(Tint(), Blinds()), seed).image[::2] == 200).all()


def test_fewer_pixels_are_changed_than_a_sample_has() -> None:
    turn = Turn()
    pipe = pipeline(turn)
    for seed in range(60):
        made(pipe, seed)
    assert turn.changed < 0.6 * 60 * S * S


def test_hue_saturation_and_value_look_the_same_early() -> None:
    """Between two colours the way differs a little; in a picture that is not noise it does not show."""
    for seed in range(20):
        context = Context((1, 1), index=seed % 5, count=5)
        plan = pipeline(RandomHSV()).draw(np.random.default_rng(seed), context, mix=True)
        early = pipeline().carry_out(plan, context, Soft())
        still = pipeline().carry_out(replace(plan, steps=()), context, Soft())
        ((augmentation, params),) = plan.steps
        late = augmentation.apply(still, params)
        assert not np.array_equal(early.image, still.image)
        assert np.abs(early.image.astype(int) - late.image).mean() < 1
