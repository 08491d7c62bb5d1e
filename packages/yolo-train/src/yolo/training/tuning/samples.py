"""Samples for measured steps: a few real ones, or drawn at random, repeated to fill batches of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from yolo.data.collate import collate
from yolo.data.config import DataConfig
from yolo.data.dataset import TrainDataset
from yolo.data.labels import LabelTable
from yolo.data.loader import build_loader
from yolo.data.loaders import ImageLoader
from yolo.data.sampler import SampleKey
from yolo.data.types import Batch, Sample, Targets

POOL = 32
"""Samples that are enough to be typical, and quick to make."""


def real_samples(config: DataConfig, table: LabelTable, images: ImageLoader, *, count: int = POOL) -> list[Sample]:
    """Make samples as a training does, the most crowded first, so that every batch shows what memory it may take.

    Args:
        config: the ``data:`` section.
        table: labels of the training split.
        images: reads the pictures.
        count: samples; no more than there are images.
    """
    dataset, keys = first_keys(config, table, images, count=count)
    samples = dataset.__getitems__(keys)
    return sorted(samples, key=lambda sample: -len(sample.targets))


def first_keys(
    config: DataConfig, table: LabelTable, images: ImageLoader, *, count: int
) -> tuple[TrainDataset, list[SampleKey]]:
    """Return the training set of a configuration, and the keys of the first samples of a training."""
    loader = build_loader(replace(config, num_workers=0), table, images=images, training=True)
    assert isinstance(loader.dataset, TrainDataset)
    order = loader.batches.order().tolist()[:count]
    return loader.dataset, [SampleKey(0, index) for index in order]


def drawn_samples(size: tuple[int, int], *, boxes: int, classes: int, count: int = POOL) -> list[Sample]:
    """Draw noise with boxes, for a network whose speed does not depend on what it sees.

    Args:
        size: width and height, pixels.
        boxes: in each.
        classes: number of classes.
        count: samples.
    """
    rng = np.random.default_rng(0)
    width, height = size
    samples = []
    for index in range(count):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        middle = rng.random((boxes, 2)) * size
        half = np.exp(rng.uniform(np.log(4), np.log(min(size) / 2), (boxes, 2))) / 2
        corners = np.concatenate([middle - half, middle + half], 1)
        found = np.clip(corners, 0, [width, height, width, height]).astype(np.float32)
        samples.append(Sample(image, Targets(found, rng.integers(0, classes, boxes)), index, size))
    return samples


def filled_batch(samples: Sequence[Sample], size: int, number: int = 0) -> Batch:
    """Return the batch of a number, counted from 0: it begins where the one before it ended, and goes round."""
    start = number * size
    return collate([samples[(start + place) % len(samples)] for place in range(size)])
