"""The values that flow from a file to the network: Sample, Targets, Batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Targets:
    """Boxes of one image.

    Attributes:
        boxes: float32 ``[N, 4]`` xyxy, pixels of the current canvas (pixel i covers ``[i, i + 1)``).
        labels: int64 ``[N]`` class indices.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def empty() -> Targets:
        """No boxes at all."""
        return Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))

    def select(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Targets:
        """Return the targets that a mask or index array picks."""
        return Targets(self.boxes[keep], self.labels[keep])


@dataclass(frozen=True)
class Sample:
    """One image with its boxes.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB.
        targets: boxes in pixels of ``image``.
        index: position in the data set (of the first source image for a mix).
        source_size: width and height of the file's upright picture, pixels.
        matrix: float64 ``[3, 3]``, maps source pixels to pixels of ``image``, in continuous coordinates.
    """

    image: NDArray[np.uint8]
    targets: Targets
    index: int
    source_size: tuple[int, int]
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))


@dataclass(frozen=True)
class Batch:
    """A collated batch; everything is a tensor so that it can be pinned and moved.

    Attributes:
        images: uint8 ``[B, 3, H, W]`` RGB.
        boxes: float32 ``[N, 4]`` xyxy pixels of the canvas, all images together.
        labels: int64 ``[N]``.
        image_index: int64 ``[N]``, position in the batch of each box's image, ascending.
        ids: int64 ``[B]`` data set indices.
        source_sizes: int64 ``[B, 2]`` width, height.
        matrices: float64 ``[B, 3, 3]`` source to canvas.
    """

    images: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    image_index: torch.Tensor
    ids: torch.Tensor
    source_sizes: torch.Tensor
    matrices: torch.Tensor

    def _map(self, function: object) -> Batch:
        return Batch(**{name: function(value) for name, value in vars(self).items()})  # type: ignore[operator]  # a tensor function

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Move every tensor (float64 matrices stay on the host, some devices have no such type)."""
        keep = {"matrices", "source_sizes", "ids"}
        return Batch(**{k: v if k in keep else v.to(device, non_blocking=non_blocking) for k, v in vars(self).items()})

    def pin_memory(self) -> Batch:
        """Pin every tensor; torch's DataLoader calls this."""
        return self._map(lambda tensor: tensor.pin_memory())
