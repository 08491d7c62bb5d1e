"""Samples to a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import get_worker_info

from yolo.data.types import Batch, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples of one size into a batch.

    Each image is split into its colour planes straight in the batch's memory, which in a worker process is shared with
    the main process: one copy in all.

    Args:
        samples: at least one.

    Returns:
        A :class:`Batch` with uint8 images; see there for shapes.
    """
    height, width = samples[0].image.shape[:2]
    images = _empty((len(samples), 3, height, width))
    for planes, sample in zip(images.numpy(), samples, strict=True):
        cv2.split(sample.image, [planes[0], planes[1], planes[2]])
    counts = [len(sample.targets) for sample in samples]
    return Batch(
        images=images,
        boxes=torch.from_numpy(np.concatenate([sample.targets.boxes for sample in samples])),
        labels=torch.from_numpy(np.concatenate([sample.targets.labels for sample in samples])),
        image_index=torch.from_numpy(np.repeat(np.arange(len(samples)), counts)),
        ids=torch.tensor([sample.index for sample in samples]),
        source_sizes=torch.tensor([sample.source_size for sample in samples]),
        matrices=torch.from_numpy(np.stack([sample.matrix for sample in samples])),
    )


def _empty(shape: tuple[int, ...]) -> torch.Tensor:
    """Uninitialised uint8 memory; in a worker, memory that the main process sees too."""
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, np.uint8))  # numpy asks for large memory pages, which are quicker
    storage = torch.UntypedStorage._new_shared(math.prod(shape))  # type: ignore[no-untyped-call]  # as torch's collate
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
