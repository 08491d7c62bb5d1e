"""What every augmentation must do: subclass :class:`AugmentationContract` in your tests, give it an augmentation.

Example::

    from yolo.data.testing.augmentations import AugmentationContract

    class TestRain(AugmentationContract):
        @pytest.fixture
        def augmentation(self):
            return Rain(density=1.0)

It serves all bases: Augmentation, ColourAugmentation, MixAugmentation and BatchAugmentation.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from yolo.data.augment.base import (
    Augmentation,
    BatchAugmentation,
    ColourAugmentation,
    Context,
    Drawn,
    MixAugmentation,
)
from yolo.data.types import Sample, Targets

_SIZES = ((64, 64), (96, 64))
_SEEDS = range(8)


class AugmentationContract:
    """Tests that pytest collects from your subclass."""

    @pytest.fixture
    def augmentation(self) -> Drawn[Any]:
        """The augmentation under test, new for every test."""
        raise NotImplementedError("override the fixture `augmentation`")

    def test_same_parameters_same_result(self, augmentation: Drawn[Any]) -> None:
        """Drawn parameters, and no hidden randomness, decide the result."""
        for seed in _SEEDS:
            assert _equal(_run(augmentation, seed), _run(augmentation, seed)), (
                f"seed {seed}: two runs with the same generator differ"
            )

    def test_no_state_between_samples(self, augmentation: Drawn[Any]) -> None:
        """What an instance did before does not matter."""
        unused = pickle.dumps(augmentation)
        for seed in _SEEDS:
            new = pickle.loads(unused)
            assert _equal(_run(augmentation, seed), _run(new, seed)), f"seed {seed}: used and new instances differ"

    def test_global_random_state_is_left_alone(self, augmentation: Drawn[Any]) -> None:
        """Only the given generator is used: numpy's global one stays where it is."""
        before = pickle.dumps(np.random.get_state())
        _run(augmentation, 0)
        assert pickle.dumps(np.random.get_state()) == before, "draw or apply used numpy's global random state"

    def test_input_is_not_written_to(self, augmentation: Drawn[Any]) -> None:
        """Samples may be shared, so they are read only."""
        for seed in _SEEDS:
            inputs = make_samples(seed)
            _apply(augmentation, inputs, seed)
            assert _equal(inputs, make_samples(seed)), f"seed {seed}: apply changed the sample that it was given"

    def test_image_keeps_type_and_shape(self, augmentation: Drawn[Any]) -> None:
        """uint8 ``[H, W, 3]``, as large as before."""
        for seed in _SEEDS:
            shape = make_samples(seed)[0].image.shape
            for sample in _run(augmentation, seed):
                assert sample.image.dtype == np.uint8, f"the image became {sample.image.dtype}"
                assert sample.image.shape == shape, f"the image became {sample.image.shape}, was {shape}"

    def test_boxes_stay_inside(self, augmentation: Drawn[Any]) -> None:
        """Every box is a finite box with an area within the image, with one label."""
        for seed in _SEEDS:
            for sample in _run(augmentation, seed):
                boxes, labels = sample.targets.boxes, sample.targets.labels
                height, width = sample.image.shape[:2]
                assert boxes.dtype == np.float32 and boxes.shape == (len(labels), 4), "boxes are float32 [N, 4]"
                assert labels.dtype == np.int64, f"labels are int64, not {labels.dtype}"
                assert np.isfinite(boxes).all(), "a box is not finite"
                assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (width, height)).all(), "a box leaves the image"
                assert (boxes[:, 2:] > boxes[:, :2]).all(), "a box has no area"

    def test_no_boxes_are_fine(self, augmentation: Drawn[Any]) -> None:
        """A picture without objects goes through."""
        for seed in _SEEDS:
            for sample in _apply(augmentation, make_samples(seed, count=0), seed):
                assert len(sample.targets) == 0, "a box came from nowhere"

    def test_colours_are_changed_one_by_one(self, augmentation: Drawn[Any]) -> None:
        """Of a :class:`ColourAugmentation`: neither the neighbours nor where a pixel lies matter; in place is fine."""
        if not isinstance(augmentation, ColourAugmentation):
            return
        for seed in _SEEDS:
            image = make_samples(seed)[0].image
            height, width = image.shape[:2]
            params = augmentation.draw(np.random.default_rng(seed), Context((width, height), count=4))
            whole, part = np.empty_like(image), image.copy()[5:-7, 3:-4]
            augmentation.recolour(image, params, whole)
            augmentation.recolour(part, params, part)
            off = np.abs(part.astype(int) - whole[5:-7, 3:-4]).max()
            assert off <= 1, f"a part of a picture, changed in place, is {off} levels off"  # 1: how OpenCV rounds

    def test_pickles(self, augmentation: Drawn[Any]) -> None:
        """Spawned workers get the augmentation as a pickle."""
        copy = pickle.loads(pickle.dumps(augmentation))
        assert _equal(_run(copy, 1), _run(augmentation, 1)), "a pickled copy behaves differently"


def make_samples(seed: int, *, count: int = 5) -> list[Sample]:
    """Make four samples of one size with noise for a picture and ``count`` boxes; a function of ``seed``."""
    rng = np.random.default_rng(1000 + seed)
    width, height = _SIZES[seed % len(_SIZES)]
    return [_sample(rng, index, (width, height), count) for index in range(4)]


def _sample(rng: np.random.Generator, index: int, size: tuple[int, int], count: int) -> Sample:
    corner = rng.uniform(0, 0.7, (count, 2)) * size
    side = rng.uniform(0.1, 0.3, (count, 2)) * size
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    image = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Sample(image, Targets(boxes, rng.integers(0, 3, count)), index, size)


def _run(augmentation: Drawn[Any], seed: int) -> list[Sample]:
    return _apply(augmentation, make_samples(seed), seed)


def _apply(augmentation: Drawn[Any], samples: list[Sample], seed: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    height, width = samples[0].image.shape[:2]
    context = Context((width, height), epoch=seed, index=0, count=len(samples))
    if isinstance(augmentation, Augmentation):
        return [augmentation(samples[0], rng, context)]
    if isinstance(augmentation, MixAugmentation):
        return [augmentation(samples[0], samples[1 : 1 + augmentation.partners], rng, context)]
    assert isinstance(augmentation, BatchAugmentation), f"{type(augmentation).__name__} has none of the three bases"
    done = augmentation(samples, rng, context)
    assert len(done) == len(samples), "the batch stage returns as many samples as it gets"
    return done


def _equal(first: list[Sample], second: list[Sample]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a.image, b.image)
        and np.array_equal(a.targets.boxes, b.targets.boxes)
        and np.array_equal(a.targets.labels, b.targets.labels)
        and np.array_equal(a.matrix, b.matrix)
        for a, b in zip(first, second, strict=True)
    )
