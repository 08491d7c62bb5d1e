"""Only the rows that a layout asks for are looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolo.data.augment.affine import RandomPerspective
from yolo.data.augment.base import Context
from yolo.data.augment.mosaic import Mosaic
from yolo.data.augment.mosaic9 import Mosaic9
from yolo.data.augment.pipeline import Chance, Pipeline
from yolo.data.augment.scene import Source
from yolo.data.testing.pictures import Pictures
from yolo.data.types import Targets

CANVAS = (96, 80)
SIZES = ((60, 90), (90, 60), (150, 40), (64, 64), (33, 200))


class Blackened(Pictures):
    """Leaves the rows black that nobody looks at."""

    blackened = 0

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Source:
        whole = super().read(index, least=least)
        assert rows is not None and 0 < rows <= whole.size[1]
        image = whole.image.copy()
        image[rows:] = 0
        self.blackened += whole.size[1] - rows
        return replace(whole, image=image)


@pytest.mark.parametrize("layout", [Mosaic(), Mosaic9()])
@pytest.mark.parametrize("degrees", [0.0, 10.0])
def test_rows_that_are_not_asked_for_do_not_show(layout: Mosaic, degrees: float) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 256, (height, width, 3), np.uint8) for width, height in SIZES]
    sources = [Source(index, image, Targets.empty(), SIZES[index]) for index, image in enumerate(images)]
    pipeline = Pipeline(CANVAS, RandomPerspective(degrees=degrees), layouts=[Chance(layout)])
    context, black = Context(CANVAS, count=len(SIZES)), Blackened(sources)
    for seed in range(300):
        plan = pipeline.draw(np.random.default_rng(seed), context, mix=True)
        whole, upper = (pipeline.carry_out(plan, context, reader).image for reader in (Pictures(sources), black))
        np.testing.assert_array_equal(upper, whole)
    assert (black.blackened > 5000) == (degrees == 0), "turned pictures are read whole"
