"""Running an exported state dict with our own network on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.preprocessing import PREPROCESSING
from yolo.core.weights.bundle import read_checkpoint
from yolo.export.graph.dynamic import DynamicDeployModule
from yolo.export.runtimes.base import require_images


class TorchStateRuntime:
    """A state dict in the network that it belongs to; see :class:`yolo.export.runtimes.base.Runtime`.

    Args:
        path: the file.

    Raises:
        WeightsError: the file is not there, or is none of ours.
    """

    dynamic_batch = True
    dynamic_size = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        model = read_checkpoint(self.path)
        network = model.build(name=str(path))
        self.class_names, self.image_size = model.class_names, model.image_size
        self.stride = max(network.strides)
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.metadata: dict[str, Any] = {"architecture": network.spec.name, "preprocessing": PREPROCESSING}
        self._module = DynamicDeployModule(network, model.image_size)

    @property
    def threads(self) -> int:
        """That torch computes with."""
        return torch.get_num_threads()

    @torch.inference_mode()
    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict; see :meth:`yolo.export.runtimes.base.Runtime.predict`."""
        require_images(images, self.path, self.image_size, step=self.stride)
        output: NDArray[np.float32] = self._module(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return output
