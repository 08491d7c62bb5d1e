"""Real pictures for an export: to calibrate int8 arithmetic with, and to compare a file with its checkpoint on.

Drawn at random with a seed, never the first ones of a sorted folder; from a data set such that its classes appear about
equally often. Letterboxed by the same function as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import UsageError, YoloError
from yolo.core.images import find_images, read_image
from yolo.core.letterbox import letterbox
from yolo.export.samples import ParitySample, draw_samples, to_input

#: That a file is compared with its checkpoint on.
PARITY_IMAGES = 8
_NO_OBJECT = -1
_CONFIGS = (".yaml", ".yml")


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationImages:
    """Pictures that were drawn.

    Attributes:
        source: the folder or configuration, as it was given.
        paths: of the pictures, in the order of the draw.
        others: of some that were not drawn, for the comparison; fewer or none, where there are no more.
        available: how many there were to draw from.
        seed: of the draw.
        read: from a path to uint8 ``[H, W, 3]`` RGB, upright.
        confidential: whether they lie encrypted on the disk; then the names of the files are told nobody.
    """

    source: str
    paths: tuple[str, ...]
    available: int
    seed: int
    others: tuple[str, ...] = ()
    read: Callable[[str], NDArray[np.uint8]] = read_image
    confidential: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def canvases(self, image_size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """Read and letterbox one picture after the other.

        Args:
            image_size: (width, height) of the network's input, pixels.

        Yields:
            uint8 ``[H, W, 3]`` RGB.

        Raises:
            ImageError: a picture cannot be read; the message names it.
        """
        return (letterbox(self.read(path), image_size)[0] for path in self.paths)

    def samples(self, image_size: tuple[int, int], count: int) -> list[ParitySample]:
        """Return ``count`` pictures as inputs with the names of their files, first of those that were not drawn."""
        samples = []
        for number, path in enumerate((*self.others, *self.paths)[:count], 1):
            name = f"picture {number}" if self.confidential else Path(path).name
            samples.append(ParitySample(name, to_input(letterbox(self.read(path), image_size)[0])))
        return samples

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a manifest."""
        name = Path(self.source).name
        return {"source": name, "images": len(self), "available": self.available, "seed": self.seed}


def choose_images(source: str | Path, *, count: int, seed: int = 0) -> CalibrationImages:
    """Draw pictures from a folder, sub-folders included, or from the training split of a data set.

    Args:
        source: a folder, or a YAML file: a configuration with a ``data:`` section, or a ``data.yaml``.
        count: of pictures; all, where there are fewer.
        seed: of the draw.

    Raises:
        UsageError: there is no such folder or file, there are no pictures, or yolo-data is needed and not installed.
        YoloError: the data set cannot be read.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        found = [str(image) for image in find_images(path)]
        if not found:
            raise UsageError(f"--calibration-images {source}: there are no pictures in this folder, nor below it")
        order = np.random.Generator(np.random.PCG64(seed)).permutation(len(found))
        drawn = tuple(found[index] for index in order[: count + PARITY_IMAGES])
        return CalibrationImages(
            source=str(source), paths=drawn[:count], others=drawn[count:], available=len(found), seed=seed
        )
    if path.is_file() and path.suffix.lower() in _CONFIGS:
        from yolo.export.images import read_config_images

        images = read_config_images(path)
        if not images.paths:
            raise UsageError(f"--calibration-images {source}: the training split of this data set is empty")
        positions = spread(images.classes, count=count + PARITY_IMAGES, seed=seed)
        drawn = tuple(images.paths[index] for index in positions)
        return CalibrationImages(
            source=str(source),
            paths=drawn[:count],
            others=drawn[count:],
            available=len(images.paths),
            seed=seed,
            read=images.read,
            confidential=images.confidential,
        )
    what = "is neither a folder nor a .yaml file" if path.exists() else "does not exist"
    raise UsageError(
        f"--calibration-images {source} {what}: give a folder of pictures, or a configuration of a data set"
    )


def spread(classes: Sequence[Collection[int]], *, count: int, seed: int) -> list[int]:
    """Draw images so that each class gets its turn: the rarest first, then the next, and so on, round after round.

    Images without any object are a class too.

    Args:
        classes: of the objects in each image.
        count: images to draw; all, where there are fewer.
        seed: of the draw.

    Returns:
        Positions in ``classes``, each at most once.
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(classes))
    waiting: dict[int, list[int]] = {}
    for index in order[::-1]:  # reversed, as lists give their last entry
        for label in set(classes[index]) or {_NO_OBJECT}:
            waiting.setdefault(label, []).append(int(index))
    turns = sorted(waiting, key=lambda label: (len(waiting[label]), label))
    chosen: dict[int, None] = {}
    while turns and len(chosen) < count:
        for label in list(turns):
            queue = waiting[label]
            while queue and queue[-1] in chosen:
                queue.pop()
            if not queue:
                turns.remove(label)
            elif len(chosen) < count:
                chosen[queue.pop()] = None
    return list(chosen)


def parity_samples(
    image_size: tuple[int, int],
    *,
    calibration: CalibrationImages | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[list[ParitySample], str]:
    """Choose what a file is compared with its checkpoint on: the nearest to real use that there is.

    That is pictures from where the calibration pictures are, others than these if there are some, else validation
    pictures of the data set that the checkpoint was trained on, else pictures that come with this package.

    Args:
        image_size: (width, height) of the network's input, pixels.
        calibration: if pictures were given.
        settings: the ``data:`` section that the checkpoint carries, if it does.
        seed: of the draw from the data set.

    Returns:
        The inputs, and where they came from, for people.

    Raises:
        ImageError: a calibration picture cannot be read.
    """
    if calibration is not None and len(calibration):
        return calibration.samples(image_size, PARITY_IMAGES), f"pictures of {Path(calibration.source).name}"
    if settings:
        from yolo.export.images import trained_on

        images = trained_on(settings)
        if images is not None and images.paths:
            chosen = tuple(images.paths[index] for index in spread(images.classes, count=PARITY_IMAGES, seed=seed))
            drawn = CalibrationImages(source="", paths=chosen, available=len(images.paths), seed=seed, read=images.read)
            try:
                return drawn.samples(image_size, PARITY_IMAGES), "validation pictures of the checkpoint's data set"
            except YoloError:  # nobody asked for these pictures, so that a damaged one is no reason to stop
                pass
    return draw_samples(image_size), "pictures that come with yolo-export"
