"""Layers that are left as they are, for good or for the first epochs."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch.nn.parallel import DistributedDataParallel

from yolo.core.errors import UsageError
from yolo.core.models import Network
from yolo.core.plugins.suggest import did_you_mean
from yolo.training.config import FreezeConfig

_EXAMPLE = "*.class_conv.*"
_COLUMNS = ("section", "layers", "parameters", "frozen", "norms held")


@dataclass(frozen=True)
class Freezing:
    """What is frozen, by name: a parallel strategy may exchange the modules themselves (SyncBatchNorm).

    A frozen parameter gets no gradient, so no optimiser moves or decays it. A norm layer of which everything is frozen
    keeps its running statistics, too, by staying in evaluation mode.

    Attributes:
        parameters: names in the network; parameters that never train (fixed by the network) are not among them.
        norms: names of the norm layers whose statistics stay.
        until_epoch: epochs, counted from the start of the training, after which all of it is trained; 0: never.
    """

    parameters: frozenset[str] = frozenset()
    norms: tuple[str, ...] = ()
    until_epoch: int = 0

    def __bool__(self) -> bool:
        return bool(self.parameters)

    def without(self, parameters: Collection[str]) -> Freezing:
        """The same, but for some parameters, of which somebody else disposes."""
        return replace(self, parameters=self.parameters.difference(parameters))

    def holds_in(self, epoch: int) -> bool:
        """Whether the parameters are frozen in an epoch, counted from 0."""
        return bool(self) and (self.until_epoch == 0 or epoch < self.until_epoch)

    def set_gradients(self, network: Network, *, frozen: bool) -> bool:
        """Freeze or release the parameters; true when that changed anything."""
        changed = False
        for name, parameter in network.named_parameters():
            if name in self.parameters and parameter.requires_grad == frozen:
                parameter.requires_grad_(not frozen)
                parameter.grad = None
                changed = True
        return changed

    def set_norms(self, network: Network, *, frozen: bool) -> None:
        """Hold or release the norm layers of a network in training; to be repeated whenever ``train()`` was called."""
        for name in self.norms:
            network.get_submodule(name).train(not frozen)

    def table(self, network: Network) -> str:
        """Return a table of sections: layers, parameters, how many of them are frozen, norm layers that are held."""
        rows: list[tuple[str, str, int, int, int]] = []
        for section in dict.fromkeys(layer.section for layer in network.spec):
            numbers = [layer.index for layer in network.spec.section(section)]
            own = {name: value for name, value in network.named_parameters() if _layer_of(name) in numbers}
            frozen = sum(value.numel() for name, value in own.items() if name in self.parameters)
            held = sum(_layer_of(name) in numbers for name in self.norms)
            everything = sum(value.numel() for value in own.values())
            span = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
            rows.append((section, span, everything, frozen, held))
        whole = f"0-{len(network.spec) - 1}"
        rows.append(("all", whole, sum(r[2] for r in rows), sum(r[3] for r in rows), sum(r[4] for r in rows)))
        cells = [[section, layers, f"{p:,}", f"{f:,}", f"{n}"] for section, layers, p, f, n in rows]
        return "\n".join([self._title(), *_aligned([list(_COLUMNS), *cells])])

    def _title(self) -> str:
        if self.until_epoch:
            return f"Frozen to the end of epoch {self.until_epoch} (model.freeze_until_epoch), then trained:"
        return "Frozen for the whole training (model.freeze_until_epoch is 0):"


def plan_freezing(network: Network, config: FreezeConfig) -> Freezing:
    """Find what the settings freeze in a network; nothing is changed.

    Args:
        network: as it will be trained.
        config: sections, layers and patterns.

    Raises:
        UsageError: a pattern matches nothing, or nothing would be left to train.
    """
    names: set[str] = set()
    if config.freeze_backbone:
        names |= _matching(network, "backbone", "model.freeze_backbone")
    for pattern in config.frozen_layers():
        names |= _matching(network, pattern, "model.freeze_layers")
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    frozen = frozenset(names & trainable)
    if frozen and frozen == trainable:
        raise UsageError(
            "model.freeze_backbone and model.freeze_layers freeze every parameter; leave something to train"
        )
    return Freezing(frozen, tuple(_held_norms(network, frozen)), config.freeze_until_epoch) if frozen else Freezing()


def wrap_again(strategy: Strategy) -> None:
    """Let DDP look at the parameters anew: it averages gradients of those only that had one when it was made."""
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.model, DistributedDataParallel):
        strategy.model = strategy.model.module
        gc.collect()  # the old wrapper has to let go of its hooks before the new one sets its own
        strategy.configure_ddp()


def _matching(network: Network, pattern: str, key: str) -> set[str]:
    """The parameters that a pattern names; never none."""
    chosen = _chooser(network, pattern, key)
    found = {name for name, _ in network.named_parameters() if chosen(name)}
    if not found:
        raise _nothing(network, pattern, key)
    return found


def _chooser(network: Network, pattern: str, key: str) -> Callable[[str], bool]:
    spec = network.spec
    numbers = {layer.index for layer in spec if pattern in (layer.section, layer.tag)}
    span = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", pattern)
    if span:
        first, last = int(span[1]), int(span[2] or span[1])
        if not first <= last < len(spec):
            raise UsageError(f"{key}: {pattern!r}: the layers of {spec.name} are 0 to {len(spec) - 1}")
        numbers = set(range(first, last + 1))
    if numbers:
        return lambda name: _layer_of(name) in numbers
    return lambda name: fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _nothing(network: Network, pattern: str, key: str) -> UsageError:
    spec = network.spec
    sections = list(dict.fromkeys(layer.section for layer in spec))
    tags = [layer.tag for layer in spec if layer.tag]
    parts = {part for name, _ in network.named_parameters() for part in name.split(".") if not part.isdigit()}
    near = did_you_mean(pattern, [*sections, *tags]) or did_you_mean(pattern, [f"*.{part}.*" for part in parts])
    text = f"{key}: {pattern!r} matches no parameter of {spec.name}."
    known = (
        f"It takes sections ({', '.join(sections)}), layers and ranges of them (0 to {len(spec) - 1}, such as '0-4'), "
        f"tags ({', '.join(tags)}), and patterns of parameter names (such as {_EXAMPLE!r})."
    )
    return UsageError(" ".join(part for part in (text, near, known) if part))


def _held_norms(network: Network, frozen: frozenset[str]) -> Iterator[str]:
    """The layers with running statistics of which, or around which, everything is frozen."""
    by_layer: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            by_layer.setdefault(_layer_of(name), []).append(name)
    for name, module in network.named_modules():
        if module._buffers.get("running_mean") is None:
            continue
        own = [f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)]
        deciding = own or by_layer.get(_layer_of(name), [])
        if deciding and frozen.issuperset(deciding):
            yield name


def _layer_of(name: str) -> int:
    return int(name.split(".", 1)[0])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
