"""Which samples make which batch: shuffled, sharded and resumable, and a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from yolo.core.errors import UsageError

_ORDER = 0x0BDE  # sets the order's seed apart from every sample's seed


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What a data set needs to know to make a sample.

    Attributes:
        epoch: counted from 0.
        index: position in the data set.
        mix: whether the sample may be mixed from several pictures (mosaic and such).
    """

    epoch: int
    index: int
    mix: bool = True


class BatchSampler(Sampler[list[SampleKey]]):
    """Batches of keys of one process.

    For training the order is shuffled anew each epoch and the shards are padded to the same length, so that every
    process takes the same number of steps. For evaluation the order is the data set's own and no image comes twice:
    shards may differ in length by one image. Only where there are fewer images than processes, those left over look at
    an image that another one has, too: Lightning skips an empty loader, and the others would wait for that process
    until they are stopped. What is found is kept by image, so that it still counts once.

    Lightning finds :meth:`set_epoch` through ``batch_sampler.sampler``, which is this object itself.

    Args:
        count: number of images in the data set.
        batch_size: images a batch in this process.
        training: shuffle, pad the shards, allow mixing.
        seed: of the order.
        epoch: to begin with.
        start_batch: batches of that epoch that are already done and left out.
        mix_epochs: number of epochs with mixing; None for all.
        rank: of this process.
        world_size: number of processes.
        drop_last: leave out a last batch that is not full.

    Raises:
        UsageError: there are no images, or ``batch_size`` is below 1.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        training: bool,
        seed: int = 0,
        epoch: int = 0,
        start_batch: int = 0,
        mix_epochs: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if count < 1 and training:
            raise UsageError("the training split has no images")
        if batch_size < 1:
            raise UsageError(f"data.batch_size is {batch_size}: it must be 1 or more")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in a world of {world_size}")
        self.count = count
        self.batch_size = batch_size
        self.training = training
        self.seed = seed
        self.epoch = epoch
        self.start_batch = start_batch
        self.mix_epochs = mix_epochs
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last

    @property
    def sampler(self) -> BatchSampler:
        """This object: where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration. Another epoch than the present one begins at its first batch."""
        if epoch != self.epoch:
            self.epoch, self.start_batch = epoch, 0

    @property
    def share(self) -> int:
        """Number of samples of this process in an epoch."""
        if self.training:
            return -(-self.count // self.world_size)
        return len(self.order())

    def __len__(self) -> int:
        """Batches of a whole epoch, those left out at its start included."""
        return self.share // self.batch_size if self.drop_last else -(-self.share // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Begin the epoch; it is fixed here and not when the first batch is asked for."""
        indices, epoch = self.order(), self.epoch
        mix = self.training and (self.mix_epochs is None or epoch < self.mix_epochs)
        starts = range(self.start_batch * self.batch_size, len(self) * self.batch_size, self.batch_size)
        parts = (indices[start : start + self.batch_size].tolist() for start in starts)
        return ([SampleKey(epoch, index, mix) for index in part] for part in parts)

    def order(self) -> NDArray[np.int64]:
        """Data set indices of this process in the present epoch, in order."""
        if not self.training:
            start = self.rank % self.count if self.count else 0
            return np.arange(start, self.count, self.world_size, dtype=np.int64)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, self.epoch, 0, _ORDER])))
        padded = np.resize(rng.permutation(self.count), self.share * self.world_size)
        return np.asarray(padded[self.rank :: self.world_size], np.int64)


def mixing_epochs(max_epochs: int | None, close_mosaic_epochs: int) -> int | None:
    """Number of epochs with mosaics and other mixes: all but the last ``close_mosaic_epochs``.

    Returns:
        None (all) when ``max_epochs`` is None or negative, which is how a trainer says "no limit".
    """
    if max_epochs is None or max_epochs < 0 or close_mosaic_epochs == 0:
        return None
    return max(0, max_epochs - close_mosaic_epochs)
