"""The network that a model file describes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from yolo.core.models.layers import INPUT
from yolo.core.models.plan import Plan
from yolo.core.outputs import BranchOutput, HeadOutput

Steps = tuple[tuple[int, tuple[int, ...]], ...]


class Network(nn.Module):
    """A detector. Layer ``n`` is the child module ``"n"``, so parameters are called ``"0.conv.weight"`` and so on.

    Args:
        plan: the checked model.
        layers: one module per layer of the plan.

    Attributes:
        spec: the model as data.
        num_classes: classes.
        strides: pixels per cell of each scale, fine to coarse.
        train_auxiliary: whether the auxiliary branch is evaluated in training mode; may be changed at any time.
    """

    def __init__(self, plan: Plan, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.plan = plan
        self.spec = plan.spec
        self.num_classes = plan.num_classes
        self.strides = plan.strides
        self.train_auxiliary = True
        for index, layer in enumerate(layers):
            self.add_module(str(index), layer)
        self._inference = _schedule(plan, plan.main)
        self._training = self._inference if plan.aux is None else _schedule(plan, plan.main, plan.aux)

    @property
    def has_auxiliary(self) -> bool:
        """Whether there is an auxiliary head to train with."""
        return self.plan.aux is not None

    def layer(self, index: int) -> nn.Module:
        """The module of one layer."""
        return self.get_submodule(str(index))

    def section(self, name: str) -> Iterator[tuple[int, nn.Module]]:
        """Index and module of the layers of one section (``"backbone"``, ...)."""
        return ((layer.index, self.layer(layer.index)) for layer in self.spec.section(name))

    def forward(self, images: Tensor, *, aux: bool | None = None) -> HeadOutput:
        """Raw predictions.

        Args:
            images: ``[B, 3, H, W]``, RGB from 0 to 1; H and W are multiples of the coarsest stride.
            aux: whether to evaluate the auxiliary branch; by default in training mode only, and there only as long as
                :attr:`train_auxiliary` is true. Layers that the asked heads do not need are not evaluated.

        Returns:
            The main head's output, and the auxiliary head's if asked for (``None`` where the network has none).

        Raises:
            UsageError: H or W is not a multiple of the coarsest stride (cells and pixels would drift apart).
        """
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # torch.jit is untyped
            self.plan.check_size((images.shape[-1], images.shape[-2]))
        with_aux = self.training and self.train_auxiliary if aux is None else aux
        maps: dict[int, Any] = {INPUT: images}
        for index, done in self._training if with_aux else self._inference:
            layer = self.plan.layers[index]
            sources = [maps[source] for source in layer.spec.sources]
            block = self._modules[str(index)]
            assert block is not None
            maps[index] = block(sources if layer.entry.many else sources[0])
            del sources
            for source in done:
                del maps[source]
        auxiliary = self._branch(self.plan.aux, maps) if with_aux and self.plan.aux is not None else None
        return HeadOutput(self._branch(self.plan.main, maps), auxiliary)

    def _branch(self, head: int, maps: dict[int, Any]) -> BranchOutput:
        cls, dist = maps[head]
        strides, anchors = self.plan.maps(head)
        return BranchOutput(cls=cls, dist=dist, strides=strides, anchors=anchors)

    def extra_repr(self) -> str:
        """Name and number of classes, for ``print``."""
        return f"{self.spec.name}, classes={self.num_classes}, strides={self.strides}"


def _schedule(plan: Plan, *heads: int) -> Steps:
    """The layers to evaluate in order, each with the maps that nobody reads afterwards."""
    steps = plan.needed(*heads)
    last_reader = {source: index for index in steps for source in plan.layers[index].spec.sources}
    return tuple((index, tuple(sorted(s for s, reader in last_reader.items() if reader == index))) for index in steps)
