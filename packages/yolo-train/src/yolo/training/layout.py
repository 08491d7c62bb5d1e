"""Memory layout of a training: channels last in memory, as ever in files."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def is_faster(device: torch.device) -> bool:
    """Whether convolutions are faster with channels last on a device, as measured; see ``docs/how-to/train.md``."""
    return device.type == "cpu"


def channels_last(network: nn.Module) -> None:
    """Let the kernels of convolutions lie channels last; names, shapes and values stay.

    Args:
        network: changed in place, parameter by parameter, so that an optimiser keeps them.
    """
    for parameter in network.parameters():
        if parameter.ndim == 4:  # Module.to() would refuse the five dimensions of the constants in a head
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def like_parameters(optimizer: Optimizer) -> None:
    """Give momenta the layout of their parameters, which a checkpoint does not keep; values stay.

    Args:
        optimizer: changed in place.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def contiguous(content: dict[str, Any]) -> None:
    """Give every tensor of a checkpoint the usual layout, so that a file says nothing of how it was trained.

    What stood in one place of the memory stands in one place afterwards, and is stored once.

    Args:
        content: changed in place; the tensors of the training are not.
    """
    known: dict[tuple[Any, ...], Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.is_contiguous():
                return value
            key = (value.device, value.dtype, value.data_ptr(), value.shape, value.stride())
            return known.setdefault(key, value.detach().contiguous()) if key not in known else known[key]
        if isinstance(value, dict):
            changed = copy.copy(value)
            for name in changed:
                changed[name] = plain(changed[name])
            return changed
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value

    for key, value in content.items():
        content[key] = plain(value)
