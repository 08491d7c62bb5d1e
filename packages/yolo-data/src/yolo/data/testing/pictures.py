"""Pictures in memory, for tests of layouts and pipelines: no files, no loaders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yolo.data.augment.scene import Source
from yolo.data.types import Targets


class Pictures:
    """A reader (:class:`yolo.data.augment.scene.Reader`) that remembers what it was asked for.

    Attributes:
        seen: data set indices, in the order in which they were read.
        least: the size that was asked for with each of them.

    Args:
        sources: by data set index.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.seen: list[int] = []
        self.least: list[tuple[int, int] | None] = []

    def __len__(self) -> int:
        return len(self.sources)

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Source:
        """Return a picture, always at its full size."""
        self.seen.append(index)
        self.least.append(least)
        return self.sources[index]

    def size(self, index: int) -> tuple[int, int]:
        """Width and height."""
        return self.sources[index].size

    def targets(self, index: int) -> Targets:
        """Boxes in pixels of the picture."""
        return self.sources[index].targets


def flat_picture(
    index: int,
    size: tuple[int, int],
    boxes: Sequence[Sequence[float]] = (),
    colours: Sequence[tuple[int, int, int]] = (),
    ground: tuple[int, int, int] = (0, 0, 0),
) -> Source:
    """Make a picture of one colour, with each box (whole pixels) filled with its own.

    Args:
        index: in the data set.
        size: width and height, pixels.
        boxes: xyxy, whole pixels. The label of box i of picture k is 100 k + i.
        colours: of the boxes; white where there are none.
        ground: colour of the rest.
    """
    image: NDArray[np.uint8] = np.full((size[1], size[0], 3), ground, np.uint8)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    for number, (x0, y0, x1, y1) in enumerate(array.astype(int).tolist()):
        image[y0:y1, x0:x1] = colours[number] if number < len(colours) else 255
    return Source(index, image, Targets(array, 100 * index + np.arange(len(array))), size)
