"""From a model file to a network with fresh weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from yolo.core.errors import UsageError
from yolo.core.models.class_width import ClassWidth
from yolo.core.models.layers import ModelSpec
from yolo.core.models.network import Network
from yolo.core.models.plan import PlannedLayer, make_plan
from yolo.core.models.spec import load_spec
from yolo.core.nn.head import MultiheadDetection

PRIOR_OBJECTS = 5  # per image, for the initial class biases


def build_model(
    model: ModelSpec | str | Path,
    num_classes: int = 80,
    *,
    image_size: tuple[int, int] = (640, 640),
    class_width: ClassWidth | int | Mapping[str, Any] | None = None,
) -> Network:
    """A network with freshly drawn weights (torch's defaults), in training mode.

    Args:
        model: name in the zoo, path of a YAML file, or a typed model.
        num_classes: classes.
        image_size: (width, height) in pixels of the images to train on; sets the initial class biases only.
        class_width: width of the class branches instead of the model's own rule: a number of channels, or
            ``{per_class: ..., at_most: ...}``.

    Raises:
        UsageError: unknown model, or a mistake in its file (:class:`~yolo.core.models.layers.SpecError`).
    """
    spec = model if isinstance(model, ModelSpec) else load_spec(model)
    plan = make_plan(spec.with_class_width(class_width), num_classes)
    network = Network(plan, [_build_layer(layer) for layer in plan.layers])
    initialise_biases(network, image_size)
    return network


def initialise_biases(network: Network, image_size: tuple[int, int]) -> None:
    """Set the biases of the last layers of all heads for a calm start; never to be called on loaded weights.

    Box logits start at 1. Class probabilities start at 5 objects per image spread evenly over cells and classes (the
    prior of RetinaNet, arXiv:1708.02002 section 4.1): bias = ``ln(5 / classes / cells of the scale)``. In heads with
    anchor boxes, box logits start at 0 (the anchor boxes), objectness at the same 5 objects spread over cells and
    anchor boxes of the scale, ``ln(5 / cells / anchors per cell)``, and classes at ``ln(1 / classes)``.

    Args:
        network: changed in place.
        image_size: (width, height) in pixels.

    Raises:
        UsageError: a side that is not positive.
    """
    width, height = image_size
    if width < 1 or height < 1:
        raise UsageError(f"image size {width}x{height}: both sides must be positive")
    for head in network.modules():
        if isinstance(head, MultiheadDetection):
            head.initialise_biases([PRIOR_OBJECTS * stride**2 / (width * height) for stride in network.strides])


def _build_layer(layer: PlannedLayer) -> nn.Module:
    supplied: dict[str, Any] = {}
    if layer.in_channels and "in_channels" in _parameters(layer):
        supplied["in_channels"] = layer.in_channels if layer.entry.many else layer.in_channels[0]
    try:
        module = layer.entry.factory(**supplied, **layer.args)
    except ValueError as error:
        raise layer.spec.error(str(error)) from None
    assert isinstance(module, nn.Module)
    return module


def _parameters(layer: PlannedLayer) -> Mapping[str, Any]:
    return inspect.signature(layer.entry.factory).parameters
