"""Random hue, saturation and brightness by lookup tables; the image never leaves uint8."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from yolo.data.augment.base import Augmentation, Context
from yolo.data.types import Sample

_VALUES = np.arange(256, dtype=np.float64)
_HUES = 180  # OpenCV's 8-bit hue counts in steps of two degrees


@dataclass(frozen=True)
class HSVParams:
    """Factors on hue, saturation and value; 1 changes nothing."""

    hue: float = 1.0
    saturation: float = 1.0
    value: float = 1.0


class RandomHSV(Augmentation[HSVParams]):
    """Multiply hue, saturation and value by factors drawn from ``1 - gain`` to ``1 + gain``.

    Args:
        hue: gain of the hue (the circle is cut at red, as in the published recipes).
        saturation: gain of the saturation.
        value: gain of the brightness.
    """

    def __init__(self, *, hue: float = 0.015, saturation: float = 0.7, value: float = 0.4) -> None:
        self.gains = (hue, saturation, value)

    def draw(self, rng: np.random.Generator, context: Context) -> HSVParams:
        """Draw the three factors uniformly."""
        hue, saturation, value = (1 + rng.uniform(-1, 1, 3) * self.gains).tolist()
        return HSVParams(hue, saturation, value)

    def apply(self, sample: Sample, params: HSVParams) -> Sample:
        """Look every pixel up."""
        if params == HSVParams():
            return sample
        picture = cv2.cvtColor(sample.image, cv2.COLOR_RGB2HSV)
        planes = cv2.split(picture)
        tables = (
            (_VALUES * params.hue) % _HUES,
            np.clip(_VALUES * params.saturation, 0, 255),
            np.clip(_VALUES * params.value, 0, 255),
        )
        for plane, table in zip(planes, tables, strict=True):
            cv2.LUT(plane, table.astype(np.uint8), plane)
        cv2.merge(planes, picture)
        return replace(sample, image=np.asarray(cv2.cvtColor(picture, cv2.COLOR_HSV2RGB), np.uint8))
