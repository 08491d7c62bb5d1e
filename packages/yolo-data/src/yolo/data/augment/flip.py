"""Random mirror images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from yolo.data.augment.base import Augmentation, Context
from yolo.data.augment.geometry import Matrix, scaling, translation
from yolo.data.types import Sample, Targets

# OpenCV's code for an axis, by (left-right, upside-down).
_CODES = {(True, False): 1, (False, True): 0, (True, True): -1}


@dataclass(frozen=True)
class FlipParams:
    """Which mirrors are used."""

    left_right: bool = False
    up_down: bool = False


class RandomFlip(Augmentation[FlipParams]):
    """Flip left-right and upside-down, independently.

    Args:
        left_right: probability of a left-right flip.
        up_down: probability of an upside-down flip.
    """

    def __init__(self, *, left_right: float = 0.5, up_down: float = 0.0) -> None:
        self.left_right = left_right
        self.up_down = up_down

    def draw(self, rng: np.random.Generator, context: Context) -> FlipParams:
        """Toss two coins."""
        a, b = rng.random(2).tolist()
        return FlipParams(a < self.left_right, b < self.up_down)

    def apply(self, sample: Sample, params: FlipParams) -> Sample:
        """Mirror the image, the boxes and the matrix."""
        code = _CODES.get((params.left_right, params.up_down))
        if code is None:
            return sample
        height, width = sample.image.shape[:2]
        boxes = sample.targets.boxes.copy()
        matrix: Matrix = sample.matrix
        if params.left_right:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            matrix = translation(width, 0) @ scaling(-1, 1) @ matrix
        if params.up_down:
            boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
            matrix = translation(0, height) @ scaling(1, -1) @ matrix
        image = np.asarray(cv2.flip(sample.image, code), np.uint8)
        return replace(sample, image=image, targets=Targets(boxes, sample.targets.labels), matrix=matrix)
