"""The small fixed network, and everything that the CPU makes of it in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from yolo.core.losses import DetectionLoss, LossOutput
from yolo.core.models.build import build_model
from yolo.core.models.network import Network
from yolo.core.models.spec import parse_spec
from yolo.core.outputs import BranchOutput, HeadOutput

_SIDE, _BATCH, _CLASSES = 64, 2, 3
_CONV = {"out_channels": 32, "kernel_size": 3, "stride": 2}
_CSP = {"out_channels": 32, "part_channels": 32, "csp_args": {"repeat_num": 1}}
# The blocks of YOLOv9-T at its widths, with few layers and large maps, so that rounding stays small through all of it.
_SPEC: dict[str, Any] = {
    "name": "self-test",
    "class_width": {"per_class": 1, "at_most": 100},
    "backbone": [
        {"Conv": {"args": {**_CONV, "out_channels": 16}, "source": 0}},
        # Of the image: further in, rounding could make another one the largest, and gradients jump.
        {"Pool": {"args": {"method": "max", "kernel_size": 5, "stride": 2, "padding": 2}, "source": 0}},
        {"Concat": {"source": [-1, -2]}},
        {"Conv": {"args": _CONV}},
        {"ELAN": {"args": {"out_channels": 32, "part_channels": 32}}},
        {"RepNCSPELAN": {"args": _CSP, "tags": "fine"}},
        {"AConv": {"args": {"out_channels": 64}}},
    ],
    "neck": [
        {"Conv": {"args": {"out_channels": 64}, "tags": "coarse"}},
        {"UpSample": {"args": {"scale_factor": 2, "mode": "nearest"}}},
        {"Concat": {"source": [-1, "fine"]}},
        {"Conv": {"args": {"out_channels": 32}, "tags": "joined"}},
    ],
    "detection": [{"MultiheadDetection": {"source": ["joined", "coarse"]}}],
    "auxiliary": [{"MultiheadDetection": {"source": ["fine", "coarse"]}}],
}

Context = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Layer:
    """What one layer does.

    Attributes:
        name: in the network.
        kind: its class.
        inputs: a map, or a list of maps.
        towards: the direction in which its outputs are differentiated.
        outputs: of it.
        gradients: by ``input <n>`` and by the name of the parameter.
    """

    name: str
    kind: str
    inputs: Any
    towards: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Reference:
    """Everything the CPU says, in float32.

    Attributes:
        images: ``[B, 3, H, W]`` from 0 to 1.
        targets: boxes, labels and image index, as the loss takes them.
        layers: in order.
        outputs: of the network.
        terms: of the loss: box, class, distance.
        slopes: of the loss at the outputs.
        gradients: of the loss, by parameter.
    """

    images: Tensor
    targets: tuple[Tensor, Tensor, Tensor]
    layers: tuple[Layer, ...]
    outputs: HeadOutput
    terms: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]


def fixed_network() -> Network:
    """The network, with the same weights every time, in training mode; the global random state stays."""
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(6)
        network = build_model(parse_spec(_SPEC), _CLASSES, image_size=(_SIDE, _SIDE))
    finally:
        torch.set_rng_state(state)
    return network.to("cpu", torch.float32).train()


@cache
def reference() -> Reference:
    """Everything the CPU says; worked out once a process."""
    random = torch.Generator().manual_seed(20)
    network, targets = fixed_network(), _targets()
    coarse = torch.rand(_BATCH, 3, 8, 8, generator=random)
    images = functional.interpolate(coarse, (_SIDE, _SIDE), mode="bilinear")
    images = images * (0.8 + 0.2 * torch.rand(images.shape, generator=random))
    fed: dict[str, Any] = {}

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _, inputs: fed.__setitem__(name, leaves(inputs[0]))

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in network.named_children()]
    output = network(images)
    for hook in hooks:
        hook.remove()
    fixed = with_maps(output, [value.detach().requires_grad_() for value in maps(output)])
    loss = DetectionLoss()(fixed, *targets)
    slopes = torch.autograd.grad(loss.total, maps(fixed))
    gradients = torch.autograd.grad(maps(output), trained(network), slopes)
    layers = []
    for name, module in network.named_children():
        with torch.no_grad():
            shapes = [value.shape for value in tensors(module(fed[name]))]
        towards = tuple(torch.randn(shape, generator=random) for shape in shapes)
        outputs, found = through(module, fed[name], towards)
        layers.append(Layer(name, type(module).__name__, fed[name], towards, outputs, found))
    return Reference(images, targets, tuple(layers), fixed, terms(loss), slopes, gradients)


def through(
    module: nn.Module, inputs: Any, towards: Sequence[Tensor], precision: Context = nullcontext
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Outputs of a layer, and the gradients of inputs and parameters in a direction.

    Args:
        module: anywhere.
        inputs: on its device.
        towards: one tensor per output.
        precision: makes the context of the forward pass.
    """
    inputs = leaves(inputs)
    with precision():
        outputs = tuple(tensors(module(inputs)))
    wanted = {f"input {at}": value for at, value in enumerate(tensors(inputs))}
    wanted |= {name: value for name, value in module.named_parameters() if value.requires_grad}
    direction = [value.to(output) for value, output in zip(towards, outputs, strict=True)]
    found = torch.autograd.grad(outputs, list(wanted.values()), direction)
    return tuple(value.detach() for value in outputs), dict(zip(wanted, found, strict=True))


def trained(network: Network) -> list[nn.Parameter]:
    """The parameters that have a gradient."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def maps(output: HeadOutput) -> list[Tensor]:
    """All maps of both branches."""
    assert output.aux is not None
    return [value for branch in (output.main, output.aux) for part in (branch.cls, branch.dist) for value in part]


def with_maps(like: HeadOutput, values: Sequence[Tensor]) -> HeadOutput:
    """The reverse of :func:`maps`."""
    assert like.aux is not None
    rest = iter(values)
    branches = [
        BranchOutput(tuple(next(rest) for _ in b.cls), tuple(next(rest) for _ in b.dist), b.strides, b.anchors)
        for b in (like.main, like.aux)
    ]
    return HeadOutput(*branches)


def terms(loss: LossOutput) -> tuple[Tensor, ...]:
    """Box, class and distance term."""
    return loss.box, loss.cls, loss.dfl


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in lists of lists."""
    if isinstance(value, Tensor):
        yield value
    else:
        for entry in value:
            yield from tensors(entry)


def leaves(value: Any, device: torch.device | None = None) -> Any:
    """A copy, on a device, at which gradients end."""
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True).requires_grad_()
    return [leaves(entry, device) for entry in value]


def _targets() -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of several sizes, two of which overlap, and a small one at the border."""
    boxes = torch.tensor(
        [[4, 4, 41, 45], [19, 9, 61, 52], [1, 33, 30, 63], [8, 8, 23, 25], [50, 0, 64, 15], [30, 30, 46, 47]]
    ).float()
    image = torch.tensor([0, 0, 0, 1, 1, 1])
    return boxes, torch.tensor([0, 1, 2, 2, 0, 1]), image


def candidates() -> tuple[Tensor, Tensor]:
    """Boxes ``[2, 400, 4]`` in heaps, and scores ``[2, 400, 3]`` of which no two are equal."""
    random = torch.Generator().manual_seed(21)
    heaps = torch.rand(_BATCH, 20, 1, 4, generator=random) * 400
    spread = torch.rand(_BATCH, 20, 20, 4, generator=random) * 12
    corner, size = (heaps + spread)[..., :2], 20 + (heaps[..., 2:] / 8 + spread[..., 2:])
    boxes = torch.cat((corner, corner + size), dim=-1).reshape(_BATCH, 400, 4)
    order = torch.stack([torch.randperm(400 * _CLASSES, generator=random) for _ in range(_BATCH)])
    return boxes, (order.view(_BATCH, 400, _CLASSES) + 1) / (400 * _CLASSES + 1)
