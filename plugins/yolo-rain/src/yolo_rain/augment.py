"""The augmentation `rain`: streaks drawn at three distances over a scene that loses contrast.

Written from what is seen in a photograph of rain: a falling drop smears into a streak during the exposure, all streaks
of one picture share the wind's angle, near ones are long, wide, bright and out of focus, far ones are short, thin and
faint, and scattered light lifts the dark parts of the scene towards grey.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import UsageError
from yolo.data.augment.base import Augmentation, Context
from yolo.data.types import Sample

_DROP_COLOUR = 235
_HAZE_COLOUR = 150
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Layer:
    """Streaks of one distance: their share of the number, and their size and look relative to the nearest ones."""

    share: float
    length: float
    width: float
    brightness: float
    blur: float


_FAR_TO_NEAR = (
    Layer(share=0.60, length=0.45, width=0.5, brightness=0.55, blur=0.0),
    Layer(share=0.30, length=0.70, width=0.7, brightness=0.85, blur=0.6),
    Layer(share=0.10, length=1.00, width=1.0, brightness=1.00, blur=1.1),
)


@dataclass(frozen=True)
class RainParams:
    """One shower.

    Attributes:
        seed: for the positions of the streaks; positions are many, so they are drawn from it when they are needed.
        density: streaks in a square picture; a narrower one has as many less as it has less area.
        angle: degrees from the vertical; above 0 the lower end is to the right.
        haze: lost contrast of the scene, 0 to 1.
    """

    seed: int
    density: float
    angle: float
    haze: float


class Rain(Augmentation[RainParams]):
    """Draw rain over a finished sample; the boxes stay as they are.

    Args:
        density: most streaks in a square picture, of any size, 0 to 5000; each picture gets 25 to 100 % of it.
        length: length of the nearest streaks as a share of the picture's longer side, 0 to 1.
        slant: largest angle of the streaks from the vertical, degrees, 0 to 80.
        opacity: how much of the scene the brightest streak hides, 0 to 1.
        haze: largest loss of contrast of the scene, 0 to 1.

    Raises:
        UsageError: an option is outside its range.
    """

    def __init__(
        self,
        *,
        density: float = 650.0,
        length: float = 0.07,
        slant: float = 15.0,
        opacity: float = 0.8,
        haze: float = 0.3,
    ) -> None:
        self.density = _within("density", density, 0, 5000)
        self.length = _within("length", length, 0, 1)
        self.slant = _within("slant", slant, 0, 80)
        self.opacity = _within("opacity", opacity, 0, 1)
        self.haze = _within("haze", haze, 0, 1)

    def draw(self, rng: np.random.Generator, context: Context) -> RainParams:
        """Draw one shower."""
        return RainParams(
            seed=int(rng.integers(2**63)),
            density=self.density * rng.uniform(0.25, 1.0),
            angle=rng.uniform(-self.slant, self.slant),
            haze=self.haze * rng.random(),
        )

    def apply(self, sample: Sample, params: RainParams) -> Sample:
        """Return the sample with rain over its picture; the given picture is left as it is."""
        scene = cv2.addWeighted(sample.image, 1 - params.haze, sample.image, 0, _HAZE_COLOUR * params.haze)
        cover = cv2.merge([streaks(sample.image.shape[:2], params, length=self.length)] * 3)
        # scene + (drops - scene) * cover, in saturating uint8: whatever is brighter than a drop stays.
        gain = cv2.multiply(cv2.subtract(_DROP_COLOUR * np.ones_like(scene), scene), cover, scale=self.opacity / 255)
        return replace(sample, image=np.asarray(cv2.add(scene, gain), np.uint8))


def streaks(shape: tuple[int, ...], params: RainParams, *, length: float) -> NDArray[np.uint8]:
    """Draw the streaks of one shower.

    Args:
        shape: height and width of the picture, pixels.
        params: the shower.
        length: length of the nearest streaks as a share of the longer side.

    Returns:
        uint8 ``[H, W]``: 255 where the nearest streaks are brightest, 0 where there is no rain.
    """
    height, width = shape
    rng = np.random.default_rng(params.seed)
    longer = max(height, width)
    longest = length * longer
    total = params.density * height * width / longer**2
    mask = np.zeros((height, width), np.uint8)
    for layer in _FAR_TO_NEAR:
        canvas = np.zeros_like(mask)
        reach = longest * layer.length
        lines = _segments(rng, round(total * layer.share), (width, height), reach, params.angle)
        thickness = max(1, round(layer.width * longer / 400))
        brightness = round(255 * layer.brightness)
        cv2.polylines(canvas, list(lines), False, (brightness,), thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        if layer.blur:
            canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), layer.blur), np.uint8)
        mask = np.maximum(mask, canvas)
    return mask


def _segments(
    rng: np.random.Generator, count: int, size: tuple[int, int], reach: float, angle: float
) -> NDArray[np.int32]:
    """Return [count, 2, 2] end points (x, y), fixed point; they begin outside as well, so that no border stays dry."""
    width, height = size
    lengths = reach * rng.uniform(0.6, 1.0, (count, 1))
    heading = np.array([[math.sin(math.radians(angle)), math.cos(math.radians(angle))]])
    start = rng.uniform([-reach, -reach], [width + reach, height], (count, 2))
    points = np.stack([start, start + lengths * heading], axis=1)
    return np.asarray(np.rint(points * 2**_SUBPIXEL_BITS), np.int32)


def _within(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise UsageError(f"rain: {name} is {value}, but must be from {low} to {high}")
    return float(value)
