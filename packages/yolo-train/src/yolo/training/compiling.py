"""The network of a training through ``torch.compile``, or without where that is not possible."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yolo.core.models import Network
from yolo.core.outputs import HeadOutput

logger = logging.getLogger(__name__)


class CompiledNetwork:
    """Runs a network compiled. It is no module: the network keeps its names, weights and checkpoints.

    Where nothing can be compiled (there is no C++ compiler, for one), a warning says so and the network runs as it is.

    Args:
        network: whose parameters and modes are used.
        mode: a mode of ``torch.compile``; None for the default one.
    """

    def __init__(self, network: Network, mode: str | None = None) -> None:
        self._network = network
        self._run: Callable[[Tensor], HeadOutput] | None = torch.compile(network.forward, mode=mode)
        # Imported with the first compilation only; the base of everything that compiling may fail with.
        from torch._dynamo.exc import TorchDynamoException

        self._failure = TorchDynamoException

    def __call__(self, images: Tensor) -> HeadOutput:
        """Raw predictions, as of the network itself."""
        if self._run is None:
            return _plainly(self._network, images)
        try:
            return self._run(images)
        except self._failure as error:
            self._run = None
            logger.warning("model.compile: %s. The network runs without being compiled.", _reason(error))
        return _plainly(self._network, images)


def compiled(network: Network, setting: bool | str) -> CompiledNetwork | None:
    """What ``model.compile`` asks for: a compiled network, or None."""
    return CompiledNetwork(network, None if setting is True else str(setting)) if setting else None


def _plainly(network: Network, images: Tensor) -> HeadOutput:
    output: HeadOutput = network(images)
    return output


def _reason(error: BaseException) -> str:
    """The first line that says something."""
    cause: Any = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines()]
    said = [line for line in lines if line and not line.endswith("raised:")]
    return (said or [type(cause).__name__])[0][:200].rstrip(".")
