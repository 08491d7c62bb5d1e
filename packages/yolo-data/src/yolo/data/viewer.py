"""Training samples to look at: exactly those that a run with the same settings and seed gets in its first epoch."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yolo.core.drawing import draw_detections
from yolo.core.results import Detections
from yolo.data.cache.use import open_images
from yolo.data.config import DataConfig
from yolo.data.dataset import EvalDataset, TrainDataset
from yolo.data.labels import LabelTable
from yolo.data.loader import build_loader
from yolo.data.sampler import SampleKey
from yolo.data.types import Sample

_QUALITY = 92


class SampleViewer:
    """Makes samples of a data set one by one, through the data set and the keys of training.

    Args:
        config: the ``data:`` section; its seed decides every sample.
        table: labels of the training split.

    Raises:
        UsageError: the split is empty, or the configuration names an unknown loader or augmentation.
    """

    def __init__(self, config: DataConfig, table: LabelTable) -> None:
        images = open_images(config, {"train": table}) if config.cache_only else None
        loader = build_loader(replace(config, num_workers=0), table, images=images, training=True)
        assert isinstance(loader.dataset, TrainDataset)
        self.dataset = loader.dataset
        self._batches = loader.batches
        self._plain = EvalDataset(table, self.dataset.loader, config.size)
        # Else a sample does not depend on the others of its batch.
        self._whole_batches = bool(self.dataset.pipeline.batches) or config.share_decoded

    def samples(self, indices: Sequence[int]) -> Iterator[Sample]:
        """Make the samples of these images, mosaics and other mixes on.

        One is made at a time; where samples of a batch depend on each other, the batch that training has them in, and
        then the order is that of the batches.

        Args:
            indices: positions in the data set, each once.
        """
        if not self._whole_batches:
            for index in indices:
                yield from self.dataset.__getitems__([SampleKey(self._batches.epoch, index)])
            return
        wanted = set(indices)
        for keys in self._batches:
            if wanted.isdisjoint(key.index for key in keys):
                continue
            for key, sample in zip(keys, self.dataset.__getitems__(keys), strict=True):
                if key.index in wanted:
                    yield sample

    def original(self, index: int) -> Sample:
        """Make the sample of an image without any augmentation: letterboxed, as in validation."""
        return self._plain[index]


def draw_sample(sample: Sample, class_names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Draw the boxes of a sample, smaller ones on top, with the names of their classes.

    Returns:
        uint8 ``[H, W, 3]`` RGB, of the sample's size.
    """
    height, width = sample.image.shape[:2]
    boxes = sample.targets.boxes
    order = np.argsort(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
    targets = sample.targets.select(order)
    scores = np.ones(len(targets), np.float32)
    found = Detections(targets.boxes, scores, targets.labels, class_names, size=(width, height))
    return draw_detections(sample.image, found, show_scores=False)


def jpeg(picture: NDArray[np.uint8] | Image.Image) -> bytes:
    """Encode a picture, uint8 ``[H, W, 3]`` RGB, or a PIL image, as a JPEG file."""
    data = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(data, format="JPEG", quality=_QUALITY)
    return data.getvalue()
