"""How large a network is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from yolo.core.models.network import Network
from yolo.core.nn.head import Detection


@dataclass(frozen=True)
class Counts:
    """Size of a network.

    Attributes:
        parameters: all parameters of the counted layers.
        trainable: those that training changes.
        flops: floating-point operations for one image: two per multiply-accumulate of convolutions, linear layers, and
            of the expectation over the bins of the box sides.
    """

    parameters: int
    trainable: int
    flops: int


# On the meta device these take longer than all the rest, for nothing: they change no shape.
_SHAPELESS = (nn.functional.batch_norm, nn.functional.silu)


class _SkipShapeless(TorchFunctionMode):
    """Leaves out what changes no shape."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        kinds: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return args[0] if func in _SHAPELESS else func(*args, **(kwargs or {}))


def count(network: Network, *, image_size: tuple[int, int] = (640, 640), aux: bool = False) -> Counts:
    """Parameters and operations, as published networks state them; nothing is computed, and nothing changes.

    Args:
        network: any, fused or not.
        image_size: (width, height) in pixels.
        aux: whether the auxiliary branch counts.
    """
    flops = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal flops
        if isinstance(module, Detection):
            flops += 2 * output[1].numel()  # one multiply-accumulate per box logit, done while decoding
        else:
            assert isinstance(module, (nn.Conv2d, nn.Linear))
            flops += 2 * output.numel() * module.weight[0].numel()

    kinds = (nn.Conv2d, nn.Linear, Detection)
    hooks = [module.register_forward_hook(add) for module in network.modules() if isinstance(module, kinds)]
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    dtype = next(network.parameters()).dtype
    images = torch.empty(1, 3, image_size[1], image_size[0], device="meta", dtype=dtype)
    try:
        with torch.no_grad(), _SkipShapeless():
            torch.func.functional_call(network, shapes, (images,), {"aux": aux})
    finally:
        for hook in hooks:
            hook.remove()
    counted = [
        parameter
        for layer in network.spec
        if aux or not layer.auxiliary
        for parameter in network.layer(layer.index).parameters()
    ]
    return Counts(
        parameters=sum(parameter.numel() for parameter in counted),
        trainable=sum(parameter.numel() for parameter in counted if parameter.requires_grad),
        flops=flops,
    )
