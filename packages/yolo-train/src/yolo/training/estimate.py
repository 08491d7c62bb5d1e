"""How much memory a training will take, measured on images far smaller than those of the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from yolo.core.models import Network

_COPIES = {"sgd": 1, "adamw": 2}  # numbers that an optimiser keeps for each that it trains
_CELLS = (2, 4)  # sides of the measured images, in cells of the coarsest scale


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes that a training process holds at the end of a forward pass, which is when it holds most.

    Attributes:
        weights: parameters and buffers.
        gradients: of the parameters that are trained.
        optimizer: what the optimiser keeps.
        average: the averaged weights.
        activations: what the backward pass needs, and the batch itself.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.average + self.activations


def estimate_memory(
    network: Network,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    optimizer: str = "sgd",
    average: bool = True,
    processes: int = 1,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> MemoryEstimate:
    """Estimate what a training takes, without what libraries take for themselves (on a GPU some hundred MB).

    Two forward passes over a small grey image run where the network is, and the tensors that stay for the backward
    pass are counted: they grow with the number of pixels. Neither the random state, nor the statistics of norm layers,
    nor anything else is touched.

    Args:
        network: in training mode; what is frozen is seen.
        image_size: width and height of the training's images, pixels.
        batch_size: images that a process has in a step.
        optimizer: ``sgd`` or ``adamw``.
        average: whether averaged weights are kept.
        processes: of the training; several exchange gradients through buffers of the same size.
        precision: context of the forward pass, such as ``trainer.precision_plugin.train_step_context``.
    """
    weights = sum(_size(tensor) for tensor in (*network.parameters(), *network.buffers()))
    trained = sum(_size(parameter) for parameter in network.parameters() if parameter.requires_grad)
    small, large = (cells * max(network.strides) for cells in _CELLS)
    with _undisturbed(network):
        low, high = (_kept_for_backward(network, side, precision) for side in (small, large))
    slope = (high - low) / (large**2 - small**2)
    pixels = batch_size * image_size[0] * image_size[1]
    images = 3 * pixels * (1 + 4)  # as loaded, and as float32
    return MemoryEstimate(
        weights=weights,
        gradients=trained * (2 if processes > 1 else 1),
        optimizer=trained * _COPIES[optimizer],
        average=weights if average else 0,
        activations=max(round(low + slope * (pixels - small**2)), 0) + images,
    )


@contextmanager
def _undisturbed(network: Network) -> Iterator[None]:
    """Leave random state as it was, and compile nothing for sizes that training never sees."""
    device = next(network.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.compiler.set_stance("force_eager"):
        yield


def _kept_for_backward(network: Network, side: int, precision: Callable[[], AbstractContextManager[Any]]) -> int:
    """Bytes that one image of ``side`` x ``side`` pixels leaves for the backward pass, parameters not counted."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *buffers.values())}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    first = next(network.parameters())
    with torch.enable_grad(), saved_tensors_hooks(count, lambda tensor: tensor), precision():
        image = torch.full((1, 3, side, side), 0.5, device=first.device, dtype=first.dtype)
        output = torch.func.functional_call(network, buffers, (image,))
    total = sum(kept.values())
    del output  # until here, so that no address is used twice
    return total


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
