"""yolo-rain, tested as any plugin's author would: the conformance kits, and what is special about rain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolo.core.errors import UsageError
from yolo.core.plugins import registry
from yolo.core.testing import PluginConformance
from yolo.data.augment.base import Context
from yolo.data.testing.augmentations import AugmentationContract
from yolo.data.types import Sample, Targets
from yolo_rain.augment import Rain, RainParams, streaks

SHOWER = RainParams(seed=5, density=650.0, angle=0.0, haze=0.0)


class TestRainPlugin(PluginConformance):
    @pytest.fixture
    def plugin(self):
        return "yolo_rain.plugin"


class TestRain(AugmentationContract):
    @pytest.fixture
    def augmentation(self):
        return Rain()


class TestHeavyRain(AugmentationContract):
    @pytest.fixture
    def augmentation(self):
        return Rain(density=5000, length=1, slant=80, opacity=1, haze=1)


def _sample(image):
    height, width = image.shape[:2]
    targets = Targets(np.array([[1, 2, 30, 40]], np.float32), np.array([1]))
    return Sample(image, targets, index=0, source_size=(width, height))


def _grey(value, size=(200, 160)):
    return np.full((size[1], size[0], 3), value, np.uint8)


def test_it_is_found_by_name():
    assert registry("augmentations").load("rain") is Rain
    assert registry("augmentations").get("rain").stage == "sample"
    assert "rain-preview" in registry("commands").names()


def test_rain_brightens_a_dark_scene_and_leaves_boxes_alone():
    before = _sample(_grey(40))
    after = Rain().apply(before, SHOWER)
    assert (after.image >= 40).all()
    assert 0.01 < (after.image > 60).mean() < 0.6
    assert after.targets is before.targets
    assert (before.image == 40).all()


def test_what_is_brighter_than_a_drop_stays():
    assert (Rain().apply(_sample(_grey(250)), SHOWER).image == 250).all()


def test_colour_does_not_change_in_haze_alone():
    image = Rain(density=0).apply(_sample(_grey(50)), replace(SHOWER, density=0.0, haze=0.5)).image
    assert (image == 100).all()  # half of the way from 50 to the haze's 150


def test_no_drops_and_no_haze_is_the_picture_itself():
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert np.array_equal(Rain().apply(_sample(picture), replace(SHOWER, density=0.0)).image, picture)


@pytest.mark.parametrize("angle", [-40, 0, 40])
def test_streaks_lean_as_they_are_told(angle):
    mask = streaks((400, 400), replace(SHOWER, density=15.0, angle=angle), length=0.2).astype(float)
    # Shift the picture along the streaks and against them: it resembles itself along them.
    down, right = 12, round(12 * np.tan(np.radians(angle)))
    along = (mask[down:] * np.roll(mask, right, axis=1)[:-down]).sum()
    against = (mask[down:] * np.roll(mask, -right, axis=1)[:-down]).sum()
    assert along > 2 * against or angle == 0
    assert along > 0


def test_every_border_gets_wet():
    cover = sum(streaks((120, 160), replace(SHOWER, seed=seed), length=0.1).astype(int) for seed in range(40))
    for border in (cover[0], cover[-1], cover[:, 0], cover[:, -1]):
        assert (border > 0).mean() > 0.5


def test_amount_does_not_depend_on_the_size_of_the_picture():
    small, large = (streaks((side, side), SHOWER, length=0.05).mean() for side in (320, 1280))
    assert 0.5 < small / large < 2


def test_drawn_parameters_stay_in_range():
    rain, rng = Rain(density=80, slant=10, haze=0.2), np.random.default_rng(0)
    for _ in range(200):
        drawn = rain.draw(rng, Context(size=(64, 64)))
        assert 20 <= drawn.density <= 80
        assert abs(drawn.angle) <= 10
        assert 0 <= drawn.haze <= 0.2


@pytest.mark.parametrize("option", [{"density": -1}, {"slant": 90}, {"opacity": 2}, {"haze": float("nan")}])
def test_an_option_out_of_range_is_named(option):
    with pytest.raises(UsageError, match=next(iter(option))):
        Rain(**option)


@pytest.mark.parametrize("size", [(1, 1), (2, 500)])
def test_any_size_of_picture(size):
    assert Rain().apply(_sample(_grey(10, size)), SHOWER).image.shape == (size[1], size[0], 3)
