"""Decoding each file of a batch once, for all the mosaics of that batch.

A mosaic of four costs four decoded files, and decoding is most of the work. With ``data.share_decoded`` the other
pictures of a mix are drawn from the sample's own batch, so a batch of 16 decodes 16 files and not 60. The price is
variety: the pictures of a batch are shown together, about four times each. A sample is then a function of (seed, epoch,
batch): it depends on which other pictures are in its batch, but not on the number of workers, nor on what was made
before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from yolo.data.augment.scene import Reader, Source
from yolo.data.types import Targets

_FEWEST = 4  # pictures in a pool: below that a mosaic would show one picture over and over
_ZOOM = 2.0


def shared_pool(indices: Iterable[int]) -> tuple[int, ...]:
    """The pictures that a batch shares: its own, each once; empty (which means all) where they are too few."""
    pool = tuple(dict.fromkeys(indices))
    return pool if len(pool) >= _FEWEST else ()


class SharedReader:
    """Keeps what was decoded for one batch.

    A file is decoded for twice the canvas (files of usual size: in full), so that one decoding serves a mosaic that
    shows it small and one that shows it large.

    Args:
        reader: decodes.
        canvas: width and height of the samples, pixels.
    """

    def __init__(self, reader: Reader, canvas: tuple[int, int]) -> None:
        self._reader = reader
        self._canvas = canvas
        self._kept: dict[int, tuple[Source, tuple[int, int] | None]] = {}

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Source:
        """Decode a file with all its rows, or give what was decoded before if it is large enough."""
        known = self._kept.get(index)
        if known is not None and _serves(known[1], least):
            return known[0]
        wanted = None
        if least is not None:
            size = self._reader.size(index)
            fit = _ZOOM * min(self._canvas[0] / size[0], self._canvas[1] / size[1])
            wanted = max(least[0], math.ceil(fit * size[0])), max(least[1], math.ceil(fit * size[1]))
        picture = self._reader.read(index, least=wanted)
        source = Source(index, picture.image, picture.targets, picture.size)
        self._kept[index] = source, wanted
        return source

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of a file as the labels tell them."""
        return self._reader.size(index)

    def targets(self, index: int) -> Targets:
        """Boxes of a file in pixels of that size."""
        return self._reader.targets(index)


def _serves(decoded_for: tuple[int, int] | None, least: tuple[int, int] | None) -> bool:
    """Whether a picture decoded for one size is enough for another; None is all there is."""
    if decoded_for is None:
        return True
    return least is not None and decoded_for[0] >= least[0] and decoded_for[1] >= least[1]
