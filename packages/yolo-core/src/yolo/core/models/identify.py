"""Recognising a published network by the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from yolo.core.models.build import build_model
from yolo.core.models.spec import load_spec, zoo_names

_HEAD = re.compile(r"(\d+)\.heads\.0\.class_conv\.2\.bias$")
_CLASS_BRANCH = re.compile(r"\.class_conv\.|\.num_batches_tracked$")
_Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Match:
    """How well weights fit a published network.

    Attributes:
        name: the nearest network.
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
        width: channels of the class branches.
        first: channels of the finest scale's map.
    """

    num_classes: int
    width: int
    first: int


def closest_model(state: Mapping[str, Tensor]) -> Match:
    """Return the published network whose names and shapes are nearest to these weights."""
    given = {key: tuple(value.shape) for key, value in state.items() if not _CLASS_BRANCH.search(key)}
    matches = []
    for name in zoo_names():
        full, deployed = _shapes(name)
        agree = sum(full.get(key) == shape for key, shape in given.items())
        matches.append(Match(name, agree / max(len(given.keys() | deployed.keys()), 1)))
    return max(matches, key=lambda match: match.share)


def class_branch(state: Mapping[str, Tensor]) -> ClassBranch | None:
    """Read the number of classes, and the width of the class branches, off the first head in the weights."""
    heads = sorted(int(found[1]) for key in state if (found := _HEAD.match(key)))
    if not heads:
        return None
    first = f"{heads[0]}.heads.0.class_conv"
    weight = state.get(f"{first}.0.conv.weight")
    if weight is None:
        return None
    width, channels = int(weight.shape[0]), int(weight.shape[1])
    return ClassBranch(num_classes=int(state[f"{first}.2.bias"].shape[0]), width=width, first=channels)


@cache
def _shapes(name: str) -> tuple[_Shapes, _Shapes]:
    """Names and shapes of a published network without its class branches: with and without the auxiliary branch."""
    with torch.device("meta"):
        network = build_model(name)
    full = {key: tuple(value.shape) for key, value in network.state_dict().items() if not _CLASS_BRANCH.search(key)}
    training_only = tuple(f"{layer.index}." for layer in load_spec(name).layers if layer.auxiliary)
    return full, {key: shape for key, shape in full.items() if not key.startswith(training_only)}
