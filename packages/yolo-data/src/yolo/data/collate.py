"""Samples to a batch."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.multiprocessing import get_sharing_strategy
from torch.utils.data import get_worker_info

from yolo.data.types import Batch, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples of one size into a batch.

    In a worker process, the batch is made in memory that is shared with the main process.

    Args:
        samples: at least one.

    Returns:
        A :class:`Batch` with uint8 images; see there for shapes.
    """
    images = _planes([sample.image for sample in samples])
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


def _planes(images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Return uint8 ``[B, 3, H, W]`` of pictures ``[H, W, 3]``; in a worker, in memory that the main process sees."""
    height, width = images[0].shape[:2]
    shape = (len(images), 3, height, width)
    if get_worker_info() is None:
        batch = torch.from_numpy(np.empty(shape, np.uint8))  # numpy asks for large memory pages, which are quicker
    else:
        storage = torch.UntypedStorage._new_shared(math.prod(shape))  # type: ignore[no-untyped-call]  # as torch does
        batch = torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
        if get_sharing_strategy() == "file_descriptor":  # type: ignore[no-untyped-call]
            _write_planes(images, storage._share_fd_cpu_()[0])
            return batch
    for image, planes in zip(images, batch.numpy(), strict=True):
        cv2.split(image, list(planes))
    return batch


def _write_planes(images: Sequence[NDArray[np.uint8]], file: int) -> None:
    """Write the planes to the file behind shared memory.

    The system then makes the file's pages many at once, and not one by one as each is touched.

    Raises:
        OSError: there is no room (``/dev/shm`` is full); touching the memory would end the process instead.
    """
    planes = np.empty((3, *images[0].shape[:2]), np.uint8)
    for number, image in enumerate(images):
        cv2.split(image, list(planes))
        if os.pwrite(file, planes.data, number * planes.nbytes) != planes.nbytes:
            raise OSError(errno.ENOSPC, "there is no shared memory left for a batch of pictures")
