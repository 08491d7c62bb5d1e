"""Each part of the pipeline draws from a stream of its own."""

from __future__ import annotations

import numpy as np
import pytest

from yolo.data.augment.base import Context
from yolo.data.augment.configured import build_pipeline
from yolo.data.augment.flip import RandomFlip
from yolo.data.augment.hsv import RandomHSV
from yolo.data.augment.streams import Streams
from yolo.data.config import DataConfig

S = 64

VARIANTS: list[dict[str, object]] = [
    {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0},
    {"flip_lr": 0.0},
    {"mixup_prob": 0.0},
    {"mixup_prob": 1.0, "mixup_alpha": 1.0},
    {"cutmix_prob": 1.0},
    {"mosaic_9_prob": 1.0},
    {"augmentations": [{"use": "flip", "p": 0.3}]},
    {"mosaic_prob": 0.0},
    {"bbox_mosaic": {"prob": 0.5}},
    {"degrees": 10.0, "scale": 0.5},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: next(iter(variant)))
def test_switching_one_thing_reshuffles_nothing_else(variant: dict[str, object]) -> None:
    base, other = (build_pipeline(DataConfig(image_size=S, **options)) for options in ({}, variant))  # type: ignore[arg-type]
    context = Context((S, S), index=2, count=50)
    for seed in range(25):
        a, b = (pipe.draw(np.random.default_rng(seed), context, mix=True) for pipe in (base, other))
        if "mosaic_prob" not in variant and type(a.picture.layout) is type(b.picture.layout):
            assert a.picture.arrangement == b.picture.arrangement
        if b.picture.layout.moved:
            assert (a.picture.affine == b.picture.affine) == ("scale" not in variant)
            assert a.picture.affine.shift == b.picture.affine.shift
        first, second = ({type(what): params for what, params in plan.steps} for plan in (a, b))
        if "augmentations" not in variant:
            assert all(first[kind] == second[kind] for kind in first.keys() & second.keys())
        assert second.keys() >= first.keys() - {RandomHSV, RandomFlip}


def test_streams_are_found_again_and_apart() -> None:
    one, two = Streams(np.random.default_rng(5)), Streams(np.random.default_rng(5))
    flips = [one.of(RandomFlip()).random(4).tolist() for _ in range(2)]
    hsv = one.of(RandomHSV()).random(4).tolist()
    assert two.of(RandomHSV()).random(4).tolist() == hsv, "whatever was asked for before"
    assert [two.of(RandomFlip()).random(4).tolist() for _ in range(2)] == flips
    assert len({tuple(values) for values in (*flips, hsv)}) == 3
    many = np.array([Streams(np.random.default_rng(seed)).of(RandomHSV()).random() for seed in range(2000)])
    assert abs(many.mean() - 0.5) < 0.02 and abs(many.std() - 12**-0.5) < 0.02
    with pytest.raises(TypeError, match="PCG64"):
        Streams(np.random.Generator(np.random.MT19937(0)))
