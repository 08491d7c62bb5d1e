"""Running a batch under observation: where do numbers stop being finite?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from yolo.core.losses import DetectionLoss
from yolo.core.models import Network
from yolo.data.types import Batch


@dataclass(frozen=True)
class ModuleReport:
    """What came out of a module in one run of it.

    Attributes:
        name: in the network.
        kind: its class.
        shape: of the output, of the first tensor where there are several.
        low: smallest finite number of the output; 0 where there is none.
        high: largest, likewise.
        bad: how many numbers of the output are NaN or infinite.
        fed_bad: whether the input held any already.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    low: float
    high: float
    bad: int
    fed_bad: bool

    def __str__(self) -> str:
        where = "already in its input" if self.fed_bad else "from finite input"
        return f"'{self.name}' ({self.kind}, {where})"


@dataclass(frozen=True)
class Examination:
    """What a batch did in a network.

    Attributes:
        weights: names of parameters that are not finite before anything is run.
        modules: in order of completion, so that a part comes before the whole.
        losses: ``loss`` and its terms, per sample.
        gradients: names of parameters whose gradient is not finite.
        backward: where in the backward pass the first number that is not finite came up: the output of a module, or a
            parameter.
    """

    weights: tuple[str, ...]
    modules: tuple[ModuleReport, ...]
    losses: dict[str, float]
    gradients: tuple[str, ...]
    backward: str | None

    @property
    def first(self) -> ModuleReport | None:
        """The module at which the forward pass ceased to be finite."""
        return next((module for module in self.modules if module.bad), None)

    @property
    def finite(self) -> bool:
        """Whether everything is."""
        bad_loss = any(value - value != 0 for value in self.losses.values())
        return not (self.weights or self.gradients or bad_loss or self.first)

    def __str__(self) -> str:
        """One clause that names the first thing that is not finite."""
        if self.weights:
            more = f" and {len(self.weights) - 1} more" if len(self.weights) > 1 else ""
            return f"the weights were not finite before this batch: '{self.weights[0]}'{more}"
        if self.first is not None:
            return f"the first output that is not finite is that of {self.first}"
        bad = [name for name, value in self.losses.items() if value - value != 0 and name != "loss"]
        if bad:
            return f"every output of the network is finite, but the {' and the '.join(bad)} loss is not"
        if self.gradients:
            where = f"first at {self.backward}" if self.backward else f"in '{self.gradients[0]}'"
            return f"the loss is finite, the gradient is not, {where}"
        return "run again, everything is finite: what happened does not depend on this batch and these weights alone"


def examine(
    network: Network,
    batch: Batch,
    compute_loss: DetectionLoss,
    *,
    factor: float = 1.0,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Examination:
    """Run a batch forwards and backwards and look at every module. Nothing of the network changes.

    Args:
        network: in the mode to look at, with the batch on one device. Gradients that it holds stay as they are.
        batch: images and boxes.
        compute_loss: as in training.
        factor: of the loss per sample before it is differentiated (batch size, processes, accumulation, loss scale).
        precision: makes the context, as of autocast, that the forward pass and the loss run in.
    """
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    weights = tuple(name for name, value in network.named_parameters() if _bad(value))
    modules: list[ModuleReport] = []
    backward: list[str] = []
    with torch.enable_grad(), _kept_buffers(network), _watched(network, modules, backward):
        with precision():
            loss = compute_loss(network(batch.images.float() / 255), batch.boxes, batch.labels, batch.image_index)
        found = torch.autograd.grad(loss.total * factor, [value for _, value in named], allow_unused=True)
    gradients = tuple(name for (name, _), value in zip(named, found, strict=True) if value is not None and _bad(value))
    losses = {
        "loss": float(loss.total.detach()),
        "box": float(loss.box),
        "cls": float(loss.cls),
        "dfl": float(loss.dfl),
    }
    return Examination(weights, tuple(modules), losses, gradients, backward[0] if backward else None)


@contextmanager
def _watched(network: nn.Module, modules: list[ModuleReport], backward: list[str]) -> Iterator[None]:
    """Fill two lists while the network runs: what came out of the modules, and where gradients are not finite."""

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            tensors = list(_tensors(output))
            if tensors:
                modules.append(_report(name, module, tensors, any(_bad(value) for value in _tensors(inputs))))
            for tensor in tensors:
                if tensor.requires_grad:
                    _watch_gradient(tensor, f"the output of '{name}' ({type(module).__name__})", backward)

        return hook

    handles: list[RemovableHandle] = [
        module.register_forward_hook(look(name)) for name, module in network.named_modules() if name
    ]
    handles += [
        _watch_gradient(parameter, f"the parameter '{name}'", backward)
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch_gradient(tensor: Tensor, name: str, found: list[str]) -> RemovableHandle:
    def look(gradient: Tensor) -> None:
        if not found and _bad(gradient):
            found.append(name)

    handle: RemovableHandle = tensor.register_hook(look)  # type: ignore[no-untyped-call]  # torch has no types for it
    return handle


@contextmanager
def _kept_buffers(network: nn.Module) -> Iterator[None]:
    """Put the buffers back afterwards: a forward pass in training moves the statistics of norm layers."""
    kept = {name: value.clone() for name, value in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in network.named_buffers():
                value.copy_(kept[name])


def _report(name: str, module: nn.Module, tensors: list[Tensor], fed_bad: bool) -> ModuleReport:
    low, high, bad = float("inf"), float("-inf"), 0
    for tensor in tensors:
        values = tensor.detach()
        finite = values.isfinite()
        count = int(finite.sum())
        bad += values.numel() - count
        if count:
            kept = values[finite].float()
            low, high = min(low, float(kept.min())), max(high, float(kept.max()))
    low, high = (low, high) if low <= high else (0.0, 0.0)
    return ModuleReport(name, type(module).__name__, tuple(tensors[0].shape), low, high, bad, fed_bad)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every floating-point tensor in nested containers."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)
    elif is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            yield from _tensors(getattr(value, item.name))


def _bad(value: Tensor) -> bool:
    return value.is_floating_point() and not bool(value.detach().isfinite().all())
