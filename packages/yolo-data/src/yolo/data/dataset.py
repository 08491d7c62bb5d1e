"""Map-style data sets whose keys carry the epoch, so that a sample is a function of (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from yolo.core.errors import YoloError
from yolo.core.letterbox import letterbox
from yolo.data.augment.base import Context
from yolo.data.augment.geometry import clip_boxes, scaling, transform_boxes
from yolo.data.augment.pipeline import Pipeline, Prepared
from yolo.data.augment.scene import Reader
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader
from yolo.data.sampler import SampleKey
from yolo.data.sharing import SharedReader, shared_pool
from yolo.data.types import Sample, Targets

_BATCH = 1  # fourth number of a batch's seed, so that it is no sample's seed


class TrainDataset(Dataset[Sample]):
    """Augmented samples.

    It holds no epoch: workers, spawned and persistent ones too, learn it from each :class:`SampleKey`.

    Args:
        table: the labels.
        loader: reads the image files.
        pipeline: augments; also gives the size of the samples.
        seed: first part of every sample's seed.
        scaled_decode: let the loader reduce a file that a sample shows smaller still, and leave out what is below.
        share_decoded: take the other pictures of a mix from the sample's own batch and decode each file of a batch once
            (:mod:`yolo.data.sharing`). A sample that is asked for alone is as without it.
    """

    def __init__(
        self,
        table: LabelTable,
        loader: ImageLoader,
        pipeline: Pipeline,
        *,
        seed: int,
        scaled_decode: bool = False,
        share_decoded: bool = False,
    ) -> None:
        self.table = table
        self.loader = loader
        self.pipeline = pipeline
        self.seed = seed
        self.scaled_decode = scaled_decode
        self.share_decoded = share_decoded

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Make one sample, the batch stage not included."""
        return self.pipeline.make(self._prepare(key, self._context(key), self))

    def __getitems__(self, keys: Sequence[SampleKey]) -> list[Sample]:
        """Make the samples of one batch; torch's DataLoader prefers this to one call a sample."""
        if not keys:
            return []
        pool = shared_pool(key.index for key in keys) if self.share_decoded else ()
        reader = SharedReader(self, self.pipeline.size) if pool else self
        prepared = [self._prepare(key, replace(self._context(key), pool=pool), reader) for key in keys]
        samples = [self.pipeline.make(one) for one in prepared]
        if not self.pipeline.batches:
            return samples
        first = keys[0]
        rng = self._rng(first.epoch, first.index, _BATCH)
        return self.pipeline.finish(samples, rng, replace(self._context(first), pool=pool))

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Unread:
        """Tell of a file, which is decoded when it is drawn (the interface that layouts read through)."""
        if not self.scaled_decode:
            least = rows = None
        decode = partial(_read, self.table, self.loader, index, least, rows)
        return Unread(index, self.table.targets(index), self.table.size(index), decode)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of a file as the labels tell them."""
        return self.table.size(index)

    def targets(self, index: int) -> Targets:
        """Boxes of a file in pixels of that size."""
        return self.table.targets(index)

    def _prepare(self, key: SampleKey, context: Context, reader: Reader) -> Prepared:
        plan = self.pipeline.draw(self._rng(key.epoch, key.index), context, mix=key.mix)
        return self.pipeline.prepare(plan, context, reader)

    def _context(self, key: SampleKey) -> Context:
        return Context(self.pipeline.size, epoch=key.epoch, index=key.index, count=len(self))

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, *numbers])))


@dataclass(frozen=True)
class Unread:
    """A :class:`yolo.data.augment.scene.Picture` whose file is decoded whenever its image is asked for."""

    index: int
    targets: Targets
    size: tuple[int, int]
    decode: Callable[[], NDArray[np.uint8]]

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 ``[H, W, 3]`` RGB."""
        return self.decode()


class EvalDataset(Dataset[Sample]):
    """Letterboxed samples, exactly as prediction makes them.

    Args:
        table: the labels.
        loader: reads the image files.
        size: width and height of the samples, pixels.
    """

    def __init__(self, table: LabelTable, loader: ImageLoader, size: tuple[int, int]) -> None:
        self.table = table
        self.loader = loader
        self.size = size

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """Make one sample. Every box stays, however small it became: evaluation leaves nothing out."""
        index = key if isinstance(key, int) else key.index
        picture = _read(self.table, self.loader, index)
        image, geometry = letterbox(picture, self.size)
        (width, height), (read_width, read_height) = self.table.size(index), geometry.source
        matrix = geometry.matrix
        if (read_width, read_height) != (width, height):
            matrix = matrix @ scaling(read_width / width, read_height / height)
        targets = self.table.targets(index)
        boxes = clip_boxes(transform_boxes(matrix, targets.boxes), (0, 0, *self.size))
        moved = Targets(boxes.astype(np.float32), targets.labels)
        return Sample(image, moved, index, (width, height), matrix)


def _read(
    table: LabelTable,
    loader: ImageLoader,
    index: int,
    least: tuple[int, int] | None = None,
    rows: int | None = None,
) -> NDArray[np.uint8]:
    """Decode a file, no more of it than :meth:`ImageLoader.read` is told to.

    A loader may hand out a smaller or larger picture than the labels count in, but not one of another shape.

    Raises:
        YoloError: the picture cannot be the labelled one: it was turned, cut, or replaced.
    """
    path = table.path(index)
    image = loader.read(path, least=least, rows=rows)
    width, height = table.size(index)
    seen = image.shape[1], image.shape[0]
    if abs(seen[0] * height - seen[1] * width) > max(width, height):  # one pixel is rounding
        raise YoloError(
            f"{path}: {type(loader).__name__} returned {seen[0]}x{seen[1]} pixels, but the labels belong to "
            f"{width}x{height}: is the EXIF orientation left out, or was the file replaced?"
        )
    return image
