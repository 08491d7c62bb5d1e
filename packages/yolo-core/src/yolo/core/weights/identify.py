"""Recognising a published network by the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from yolo.core.models.build import build_model
from yolo.core.models.fuse import fuse
from yolo.core.models.spec import load_spec, zoo_names

_HEAD = re.compile(r"(\d{1,6})\.heads\.0\.(class_conv\.2|head_conv)\.bias")
_FIRST_LAYER = re.compile(r"0\.[\w.]*weight")
_CLASS_BRANCH = re.compile(r"\.(class_conv|head_conv|implicit_m)\.|\.num_batches_tracked$")
_ANCHOR_ROWS = 5  # per anchor: box and objectness; then the classes
#: Anchors per cell of YOLOv7's head.
PUBLISHED_ANCHORS = 3
_Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Match:
    """How well weights fit a published network.

    Attributes:
        name: the nearest network; of two that fit alike, the one that has an auxiliary branch, too (``v9-c`` rather
            than ``gelan-c``).
        share: part of the names and shapes that agree, 0..1; class branches do not count, because they depend on the
            number of classes. 1 without the auxiliary branch, too.
    """

    name: str
    share: float


@dataclass(frozen=True)
class ClassBranch:
    """What the main head of some weights says about classes.

    Attributes:
        num_classes: classes.
        width: channels of the class branches; 0 when there are none, as in YOLOv7's head.
        first: channels of the finest scale's map.
    """

    num_classes: int
    width: int
    first: int


def closest_model(state: Mapping[str, Tensor]) -> Match:
    """Return the published network whose names and shapes are nearest to these weights."""
    given = {key: tuple(value.shape) for key, value in state.items() if not _CLASS_BRANCH.search(key)}
    fused = is_fused(state)
    best: Match | None = None
    for name in sorted(zoo_names(), key=lambda name: _promise(name, state), reverse=True):
        full, deployed = _shapes(name, fused)
        agree = sum(full.get(key) == shape for key, shape in given.items())
        match = Match(name, agree / max(len(given.keys() | deployed.keys()), 1))
        if match.share == 1:
            return match
        if best is None or match.share > best.share:
            best = match
    assert best is not None
    return best


def is_fused(state: Mapping[str, Tensor]) -> bool:
    """Whether weights have no batch normalisation left: good for inference, not to train from."""
    return not any(key.endswith(".running_mean") for key in state)


def class_branch(state: Mapping[str, Tensor], *, anchors: int = PUBLISHED_ANCHORS) -> ClassBranch | None:
    """Read the number of classes, and the width of the class branches, off the first head in the weights.

    Args:
        state: weights by name.
        anchors: per cell, should this be a head with anchors; its rows do not tell.

    Returns:
        None when there is no detection head.
    """
    heads = sorted((int(found[1]), found[2]) for key in state if (found := _HEAD.fullmatch(key)))
    if not heads:
        return None
    index, layer = heads[0]
    bias = state[f"{index}.heads.0.{layer}.bias"]
    first = "head_conv.weight" if layer == "head_conv" else "class_conv.0.conv.weight"
    weight = state.get(f"{index}.heads.0.{first}")
    if weight is None or weight.dim() != 4 or bias.dim() != 1:
        return None
    rows, channels = int(bias.shape[0]), int(weight.shape[1])
    if layer != "head_conv":
        return ClassBranch(num_classes=rows, width=int(weight.shape[0]), first=channels)
    size, rest = divmod(rows, anchors)
    return None if rest or size <= _ANCHOR_ROWS else ClassBranch(size - _ANCHOR_ROWS, width=0, first=channels)


def _promise(name: str, state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Say how likely a network is, without building it: place of the head, width of the first layer, then depth."""
    spec = load_spec(name)
    heads = {int(found[1]) for key in state if (found := _HEAD.fullmatch(key))}
    widths = {int(value.shape[0]) for key, value in state.items() if _FIRST_LAYER.match(key) and value.dim()}
    likely = any(layer.index in heads for layer in spec.section("detection"))
    return likely + (spec.layers[0].args.get("out_channels") in widths), len(spec)


@cache
def _shapes(name: str, fused: bool) -> tuple[_Shapes, _Shapes]:
    """Names and shapes of a published network without its class branches: with and without the auxiliary branch."""
    with torch.device("meta"):
        network = build_model(name)
    if fused:
        network = fuse(network)
    full = {key: tuple(value.shape) for key, value in network.state_dict().items() if not _CLASS_BRANCH.search(key)}
    training_only = tuple(f"{layer.index}." for layer in load_spec(name).layers if layer.auxiliary)
    return full, {key: shape for key, shape in full.items() if not key.startswith(training_only)}
