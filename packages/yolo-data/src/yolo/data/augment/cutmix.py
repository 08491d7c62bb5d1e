"""CutMix (Yun et al., 2019, arXiv:1905.04899, section 3.1) for detection: a region of another picture is pasted in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from yolo.data.augment.base import Context, MixAugmentation
from yolo.data.augment.geometry import MIN_VISIBLE, Rect, area, clip_boxes, worth_keeping
from yolo.data.types import Sample, Targets


@dataclass(frozen=True)
class CutMixParams:
    """The region, whole pixels: left, top, right, bottom; the last two are not part of it."""

    region: tuple[int, int, int, int]


class CutMix(MixAugmentation[CutMixParams]):
    """Paste a rectangle of another single picture, at the same place, over a single picture.

    A box of the other picture is cut to the rectangle; a box of the picture itself shrinks to what still shows of it.
    Both keep their label while more than a tenth of their area shows, as everywhere else (``worth_keeping``).

    Args:
        alpha: both parameters of the beta distribution that the picture's own share of the area is drawn from; 1 is
            uniform, the paper's choice.
    """

    pictures: ClassVar[Literal["any", "mosaic", "single"]] = "single"

    def __init__(self, *, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def draw(self, rng: np.random.Generator, context: Context) -> CutMixParams:
        """Draw the share of the area and the middle of the region, which is cut off at the picture's border."""
        side = np.sqrt(1 - rng.beta(self.alpha, self.alpha)) / 2
        size = np.array(context.size)
        middle = rng.random(2) * size
        low = np.clip(np.rint(middle - side * size), 0, size).astype(int)
        high = np.clip(np.rint(middle + side * size), 0, size).astype(int)
        return CutMixParams((*low.tolist(), *high.tolist()))

    def apply(self, sample: Sample, others: Sequence[Sample], params: CutMixParams) -> Sample:
        """Copy the region and put together the boxes that show."""
        (other,) = others
        x0, y0, x1, y1 = params.region
        if x0 >= x1 or y0 >= y1:
            return sample
        image = sample.image.copy()
        image[y0:y1, x0:x1] = other.image[y0:y1, x0:x1]
        kept, pasted = _uncovered(sample.targets, params.region), _inside(other.targets, params.region)
        boxes = np.concatenate([kept.boxes, pasted.boxes])
        return replace(sample, image=image, targets=Targets(boxes, np.concatenate([kept.labels, pasted.labels])))


def _inside(targets: Targets, region: Rect) -> Targets:
    cut = clip_boxes(targets.boxes, region)
    keep = worth_keeping(cut, targets.boxes)
    return Targets(cut[keep].astype(np.float32), targets.labels[keep])


def _uncovered(targets: Targets, region: Rect) -> Targets:
    rest = remainder(targets.boxes, region)
    covered = area(clip_boxes(targets.boxes, region))
    whole = area(targets.boxes)
    keep = worth_keeping(rest, targets.boxes) & (whole - covered > MIN_VISIBLE * whole)
    return Targets(rest[keep].astype(np.float32), targets.labels[keep])


def remainder(boxes: NDArray[np.floating], cover: Rect) -> NDArray[np.float64]:
    """The smallest boxes ``[N, 4]`` around what a rectangle leaves uncovered of boxes ``[N, 4]``.

    A side moves only where the rectangle covers the box over its whole width (or height): a covered corner or middle
    leaves the outline as it was. A box that is covered altogether gets no area.
    """
    left = np.asarray(boxes, np.float64).copy()
    x0, y0, x1, y1 = cover
    across = (x0 <= boxes[:, 0]) & (boxes[:, 2] <= x1)
    down = (y0 <= boxes[:, 1]) & (boxes[:, 3] <= y1)
    for axis, spans, low, high in ((1, across, y0, y1), (0, down, x0, x1)):
        begin, end = boxes[:, axis], boxes[:, axis + 2]
        left[:, axis] = np.where(spans & (low <= begin) & (high > begin), np.minimum(high, end), begin)
        left[:, axis + 2] = np.where(spans & (high >= end) & (low < end), np.maximum(low, begin), end)
    gone = across & down
    left[gone, 2:] = left[gone, :2]
    return left
