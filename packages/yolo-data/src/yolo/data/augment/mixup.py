"""MixUp (Zhang et al., 2018, arXiv:1710.09412, section 2) for detection: a blend that keeps the boxes of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import cv2
import numpy as np

from yolo.data.augment.base import Context, MixAugmentation
from yolo.data.types import Sample, Targets


@dataclass(frozen=True)
class MixUpParams:
    """The weight of the sample itself; the other picture has the rest of 1."""

    weight: float


class MixUp(MixAugmentation[MixUpParams]):
    """Blend a mosaic with another mosaic.

    Args:
        alpha: both parameters of the beta distribution that the weight is drawn from; the larger, the nearer to 0.5.
    """

    pictures: ClassVar[Literal["any", "mosaic", "single"]] = "mosaic"

    def __init__(self, *, alpha: float = 32.0) -> None:
        self.alpha = alpha

    def draw(self, rng: np.random.Generator, context: Context) -> MixUpParams:
        """Draw the weight."""
        return MixUpParams(float(rng.beta(self.alpha, self.alpha)))

    def apply(self, sample: Sample, others: Sequence[Sample], params: MixUpParams) -> Sample:
        """Blend the pixels; every box of both pictures stays."""
        (other,) = others
        image = cv2.addWeighted(sample.image, params.weight, other.image, 1 - params.weight, 0)
        boxes = np.concatenate([sample.targets.boxes, other.targets.boxes])
        labels = np.concatenate([sample.targets.labels, other.targets.labels])
        return replace(sample, image=np.asarray(image, np.uint8), targets=Targets(boxes, labels))
