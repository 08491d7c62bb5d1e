"""Put a picture beside what an augmentation makes of it, and write the result."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.core.files import write_atomically
from yolo.data.augment.base import Context
from yolo.data.types import Sample, Targets
from yolo_rain.augment import Rain

_GAP = 8


def side_by_side(image: NDArray[np.uint8], rain: Rain, *, count: int, seed: int) -> NDArray[np.uint8]:
    """Return the picture and `count` showers in one row.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        rain: the augmentation.
        count: number of showers.
        seed: of the first one.

    Returns:
        uint8 ``[H, (count + 1) * W + count * 8, 3]`` RGB.
    """
    height, width = image.shape[:2]
    row = [image]
    for shower in range(count):
        sample = Sample(image.copy(), Targets.empty(), index=0, source_size=(width, height))
        rng = np.random.default_rng([seed, shower])
        row += [np.full((height, _GAP, 3), 255, np.uint8), rain(sample, rng, Context(size=(width, height))).image]
    return np.concatenate(row, axis=1)


def write_image(image: NDArray[np.uint8], path: Path) -> None:
    """Write an RGB picture; a kill leaves the old file or the new one.

    Raises:
        UsageError: the suffix names no format that Pillow can write.
        YoloError: the file cannot be written.
    """
    format_name = Image.registered_extensions().get(path.suffix.lower())
    if format_name not in Image.SAVE:
        raise UsageError(f"--output {path}: {path.suffix or 'no suffix'} is no picture format; use .jpg or .png")
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, format=format_name, quality=92)
    try:
        write_atomically(path, encoded.getvalue())
    except OSError as error:
        raise YoloError(f"--output {path} cannot be written: {error.strerror or error}") from error
