"""The DataLoader of a split, one that can be stopped and continued within an epoch."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from yolo.core.errors import YoloError
from yolo.data.augment.configured import build_pipeline
from yolo.data.collate import collate
from yolo.data.config import DataConfig
from yolo.data.dataset import EvalDataset, TrainDataset
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader, open_loader
from yolo.data.loaders.choose import check_picklable
from yolo.data.sampler import BatchSampler, mixing_epochs
from yolo.data.types import Batch, Sample
from yolo.data.workers import prepare_worker, usable_workers

_log = logging.getLogger("yolo.data")


class BatchLoader(DataLoader[Any]):
    """A DataLoader that knows how far it has come.

    ``state_dict`` and ``load_state_dict`` are what Lightning asks of a loader that resumes: the state holds the epoch
    and the number of batches handed out, prefetched ones not counted.

    Args:
        dataset: takes the keys of ``batches``.
        batches: the batch sampler.
        options: of :class:`torch.utils.data.DataLoader`.
    """

    def __init__(self, dataset: Dataset[Sample], batches: BatchSampler, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batches, collate_fn=collate, **options)
        self.batches = batches
        self._position = (batches.epoch, batches.start_batch)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names a private class
        """Begin (or continue) the sampler's epoch. Workers start at once."""
        self._position = (self.batches.epoch, self.batches.start_batch)
        return self._counted(super().__iter__())

    def _counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        epoch, done = self._position
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except YoloError as error:
                raise type(error)(_own_words(error)) from None
            done += 1
            self._position = (epoch, done)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Epoch, and batches of it that were handed out."""
        epoch, done = self._position
        return {"epoch": epoch, "batch": done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches of ``state``; a finished epoch continues with the next one."""
        epoch, done = state["epoch"], state["batch"]
        if done >= len(self.batches):
            epoch, done = epoch + 1, 0
        self.batches.epoch, self.batches.start_batch = epoch, done
        self._position = (epoch, done)


def build_loader(
    config: DataConfig,
    table: LabelTable,
    *,
    training: bool,
    images: ImageLoader | None = None,
    max_epochs: int | None = None,
    epoch: int = 0,
    start_batch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = False,
    context: str | None = None,
) -> BatchLoader:
    """Build the loader of a split.

    Args:
        config: the ``data:`` section.
        table: labels of the split.
        training: augment and shuffle; otherwise letterbox, in the data set's order.
        images: reads the pictures, see :func:`yolo.data.cache.use.open_images`; None: the configuration's loader.
        max_epochs: length of the run, from which ``close_mosaic_epochs`` counts back; None or negative: unknown.
        epoch: to begin with (a resumed run: the trainer's current epoch).
        start_batch: batches of that epoch to leave out.
        rank: of this process.
        world_size: number of processes; each gets its share.
        drop_last: leave out a last batch that is not full.
        context: how workers start (``fork``, ``spawn``, ``forkserver``); None for the platform's own way.

    Returns:
        A loader of :class:`Batch`; use it with ``use_distributed_sampler=False``.

    Raises:
        UsageError: the split is empty, or the configuration names an unknown loader or augmentation, or a loader that
            cannot be sent to the workers.
    """
    loader = images or open_loader(config.image_loader, encryption_key=config.encryption_key)
    dataset: TrainDataset | EvalDataset
    mix_epochs = None
    if training:
        dataset = TrainDataset(
            table,
            loader,
            build_pipeline(config),
            seed=config.seed or 0,
            scaled_decode=config.scaled_decode,
            share_decoded=config.share_decoded,
        )
        mix_epochs = mixing_epochs(max_epochs, config.close_mosaic_epochs)
        if mix_epochs == 0 and (config.mosaic_prob or config.bbox_mosaic.prob):
            _log.info(
                "No mosaic in this run: its %s epochs are all within the last close_mosaic_epochs (%d)",
                *(max_epochs, config.close_mosaic_epochs),
            )
    else:
        dataset = EvalDataset(table, loader, config.size)
    batches = BatchSampler(
        len(table),
        batch_size=config.batch_size,
        training=training,
        seed=config.seed or 0,
        epoch=epoch,
        start_batch=start_batch,
        mix_epochs=mix_epochs,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
    )
    workers = min(usable_workers(config.num_workers), max(1, len(batches)) if config.num_workers else 0)
    if workers and _start_method(context) != "fork":
        check_picklable(loader)
    return BatchLoader(
        dataset,
        batches,
        num_workers=workers,
        pin_memory=config.pin_memory and _gpu_present(),
        prefetch_factor=config.prefetch_factor if workers else None,
        persistent_workers=workers > 0,
        worker_init_fn=prepare_worker,
        multiprocessing_context=context if workers else None,
    )


def _start_method(context: str | None) -> str:
    """How workers will start: asked for, set for the process, or the system's own way (which is not set by asking)."""
    found = context or multiprocessing.get_start_method(allow_none=True)
    return found or multiprocessing.get_all_start_methods()[0]


def _gpu_present() -> bool:
    """Whether pinning is of use (torch warns when it is asked for without an accelerator)."""
    return torch.cuda.is_available()


def _own_words(error: YoloError) -> str:
    """The message of an error without the worker's traceback, which torch makes a part of it."""
    text = str(error)
    if "Original Traceback" not in text:
        return text
    return text.rpartition(f"{type(error).__name__}: ")[2].strip()
