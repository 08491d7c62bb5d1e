"""Pictures that come with the package, to compare a file with its checkpoint on where there are no real ones.

They are drawn by code, the same every time, and letterboxed like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.core.letterbox import letterbox

# (width, height, grain): square, lying, standing, as narrow as a banner, and one with coarse grain.
_PICTURES = ((200, 200, 4), (320, 180, 8), (150, 260, 16), (400, 60, 8), (240, 200, 24))


@dataclass(frozen=True)
class ParitySample:
    """One input of a network.

    Attributes:
        name: for tables and messages.
        image: float32 ``[3, H, W]``, RGB from 0 to 1.
    """

    name: str
    image: NDArray[np.float32]


def draw_samples(image_size: tuple[int, int], *, seed: int = 0) -> list[ParitySample]:
    """Return six inputs: five letterboxed pictures with shapes on them, and plain black.

    Args:
        image_size: (width, height) of the network's input, pixels.
        seed: of the pictures.
    """
    generator = np.random.default_rng(seed)
    samples = []
    for width, height, grain in _PICTURES:
        canvas, _ = letterbox(_picture(width, height, grain, generator), image_size)
        samples.append(ParitySample(f"picture {width}x{height}", to_input(canvas)))
    black = np.zeros((image_size[1], image_size[0], 3), dtype=np.uint8)
    return [*samples, ParitySample("black", to_input(black))]


def to_input(canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A uint8 RGB picture ``[H, W, 3]`` as float32 ``[3, H, W]`` from 0 to 1."""
    scaled = canvas.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(scaled)


def _picture(width: int, height: int, grain: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A sloping background with filled shapes and grain: edges, flat parts and texture in one picture."""
    ends = generator.uniform(0, 255, (2, 3))
    slope = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    image = (ends[0] + (ends[1] - ends[0]) * slope).astype(np.uint8)
    for _ in range(8):
        centre = int(generator.integers(width)), int(generator.integers(height))
        half = [int(side) for side in generator.integers(4, max(6, min(width, height) // 2), 2)]
        color = [int(value) for value in generator.integers(0, 256, 3)]
        if generator.random() < 0.5:
            cv2.ellipse(image, centre, half, float(generator.uniform(0, 180)), 0, 360, color, -1)
        else:
            corner = centre[0] + half[0], centre[1] + half[1]
            cv2.rectangle(image, centre, corner, color, -1)
    grained: NDArray[np.uint8] = np.clip(image + generator.normal(0, grain, image.shape), 0, 255).astype(np.uint8)
    return grained
