"""The Lightning data module: labels and loaders of a data set, described by one DataConfig."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from yolo.cli.output import track
from yolo.core.errors import UsageError
from yolo.data.cache.promote import CacheBusyError
from yolo.data.cache.use import fill_cache, open_images
from yolo.data.check.compare import warn_about_splits
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.formats.report import show
from yolo.data.labels import LabelTable
from yolo.data.loader import build_loader
from yolo.data.loaders import ImageLoader
from yolo.training.limits import settle_loading
from yolo.training.processes import first_on_each_machine
from yolo.training.schedulers.length import epoch_batches, optimizer_steps

_log = logging.getLogger(__name__)


class YOLODataModule(LightningDataModule):
    """Images and labels for training and validation."""

    def __init__(self, **kwargs: Any) -> None:
        """Take the settings; nothing is read before :meth:`setup`.

        Args:
            **kwargs: fields of :class:`~yolo.data.config.DataConfig`.
        """
        super().__init__()
        self.config = DataConfig(**kwargs)
        self.builds_cache = True  # false reads an image cache that is there and fits, and else the files
        self._labels: dict[str, LabelTable] = {}
        self._images: ImageLoader | None = None
        self._affordable: dict[str, Any] | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the network's input, pixels."""
        return self.config.size

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        table = next(iter(self._labels.values()), None) or self.labels("val")
        return tuple(table.class_names)

    def labels(self, split: str) -> LabelTable:
        """Return the labels of a split, parsed once."""
        if split not in self._labels:
            self._labels[split] = load_labels(self.config, split)
        return self._labels[split]

    def setup(self, stage: str) -> None:
        """Read the labels a stage needs, with all repairs, and see that train and val go together.

        This is the fast part of ``yolo data check``: it reads what training needs anyway. Then the image cache is
        filled, if there is to be one, by one process of each machine.
        """
        validated = self.trainer is None or self.trainer.limit_val_batches != 0
        splits = [*(["train"] if stage == "fit" else []), *(["val"] if validated else [])]
        with first_on_each_machine(self.trainer) as first:
            tables = {split: self.labels(split) for split in splits}
            warn_about_splits(tables, show(self.config.folder))
            if first and self.builds_cache:
                self._fill_cache(tables)
        self._images = open_images(self.config, tables, checked=self.builds_cache)
        if self._affordable is None:  # told once a run
            settled = self._settle_loading(tables)
            self._affordable = {key: getattr(settled, key) for key in ("num_workers", "prefetch_factor")}

    def _fill_cache(self, tables: Mapping[str, LabelTable]) -> None:
        """Fill the image cache, or wait while another machine fills it, on a disk that both have."""
        told = False
        while True:
            try:
                fill_cache(self.config, tables, track=_track)
                return
            except CacheBusyError:
                if self.trainer is None or self.trainer.world_size == 1:
                    raise
            if not told:
                _log.info("Another process fills the image cache: waiting for it")
            told = True
            time.sleep(1)

    def _settle_loading(self, tables: Mapping[str, LabelTable]) -> DataConfig:
        trainer = self.trainer
        world_size, ranks = (trainer.world_size, trainer.num_devices) if trainer else (1, 1)
        batches = [-(-len(table) // (world_size * self.config.batch_size)) for table in tables.values()]
        return settle_loading(self.config, batches, ranks=ranks, tell=trainer is None or trainer.local_rank == 0)

    @property
    def loading(self) -> DataConfig:
        """The settings with as many workers, and as many batches waiting, as this machine can serve."""
        return replace(self.config, **(self._affordable or {}))

    @property
    def images(self) -> ImageLoader:
        """What reads the pictures: the files, or the image cache."""
        if self._images is None:
            self._images = open_images(self.config, self._labels)
        return self._images

    def check_classes(self, expected: int | None) -> None:
        """Compare a number of classes with the data.

        Raises:
            UsageError: they differ.
        """
        count = len(self.class_names)
        if expected is not None and expected != count:
            raise UsageError(
                f"model.num_classes is {expected}, but the data has {count} classes: leave it out, or correct it"
            )

    def optimizer_steps_per_epoch(self) -> int:
        """Count the optimiser steps of an epoch from the labels, without starting a loader."""
        trainer = self.trainer
        assert trainer is not None
        return optimizer_steps(
            len(self.labels("train")),
            batch_size=self.config.batch_size,
            processes=trainer.world_size,
            limit=trainer.limit_train_batches,
            accumulate=trainer.accumulate_grad_batches,
        )

    def batches_per_epoch(self) -> int:
        """Count the batches of an epoch in this process from the labels, without starting a loader."""
        trainer = self.trainer
        assert trainer is not None
        return epoch_batches(
            len(self.labels("train")),
            batch_size=self.config.batch_size,
            processes=trainer.world_size,
            limit=trainer.limit_train_batches,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Build the loader of augmented training batches."""
        trainer = self.trainer
        assert trainer is not None
        loader = build_loader(
            self.loading,
            self.labels("train"),
            images=self.images,
            training=True,
            max_epochs=trainer.max_epochs,
            # Not current_epoch: a run resumed between validation and the end of an epoch has processed that epoch.
            epoch=int(getattr(trainer.fit_loop.epoch_progress.current, "processed", trainer.current_epoch)),
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return self._alone(loader)

    def val_dataloader(self) -> DataLoader[Any]:
        """Build the loader of letterboxed validation batches."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        loader = build_loader(
            self.loading, self.labels("val"), images=self.images, training=False, rank=rank, world_size=world_size
        )
        return self._alone(loader)

    def _alone(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Let a loader draw the seed of its workers from a generator of its own.

        With torch's own one every start of a loader would move the random state of the training, and a run that is
        resumed starts its loaders at other moments.
        """
        loader.generator = torch.Generator().manual_seed(self.config.seed or 0)
        return loader


def _track(items: Iterable[Any], text: str, total: int) -> Iterable[Any]:
    return track(items, text, total=total)
