"""Weights under the names of the published YOLOv9, GELAN and YOLOv7 code, to ours and back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from yolo.core.models.build import build_model
from yolo.core.models.spec import load_spec
from yolo.core.weights.file import WeightsError
from yolo.core.weights.official_names import layout, neutral_values, official_names, official_table, shapes

__all__ = ["anchors_of", "canonical_from_official", "is_official", "official_names", "official_table", "to_official"]

_LAYER = re.compile(r"model\.(\d{1,6})\.")
_THEIRS = re.compile(r"(model\.)?\d+\.(cv\d|m\.\d|dfl|rbr_)")
_SEGMENTATION = re.compile(r"(model\.)?\d+\.proto2?\.")
_CLASSES = re.compile(r"\.(class_conv|head_conv|implicit_m)\.|\.num_batches_tracked$")
_MINIMUM = 0.5  # share of names and shapes; a file of another network has 0.3 at most in common with one of these


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Whether names are those of the published code: ``"model.4.cv1.conv.weight"``, with or without ``model.``."""
    return any(_THEIRS.match(key) for key in state)


def canonical_from_official(state: Mapping[str, Tensor], *, name: str = "the weights") -> tuple[str, dict[str, Tensor]]:
    """Rename the tensors of a published file, whatever its number of classes.

    The network is recognised by names and shapes. A GELAN or converted file gives the weights without auxiliary branch;
    of a deployed YOLOv7 file, whose implicit vectors are merged into the convolutions, they are the neutral ones.

    Args:
        state: tensors by published name, with or without ``model.``.
        name: what the weights are called in messages.

    Returns:
        Published name of the network of ours, and its weights in its order. Tensors that it does not have follow under
        their old names, so that whoever loads the weights can report them.

    Raises:
        WeightsError: a segmentation network, or none that is known.
    """
    given = {f"model.{key.removeprefix('model.')}": value for key, value in state.items()}
    if any(_SEGMENTATION.match(key) for key in given):
        raise WeightsError(
            f"{name!r} holds a segmentation network (it has mask prototypes: gelan-c-seg, yolov9-c-dseg or the like); "
            "only detectors are supported"
        )
    share, official_name = _closest(given)
    if share < _MINIMUM:
        raise WeightsError(
            f"{name!r} has names as in the published YOLO code, but is none of its networks that are known here "
            f"({', '.join(official_names())}); the nearest is {official_name!r} ({share:.0%} of names and shapes agree)"
        )
    table, zoo = official_table(official_name), layout(official_name).zoo
    source = {ours: theirs for theirs, targets in table.items() for ours in targets}
    canonical = {}
    for key, shape in shapes(zoo).items():
        if source.get(key) in given:
            value = given[source[key]]
            fits = value.dim() != len(shape) and value.numel() == torch.Size(shape).numel()
            canonical[key] = value.reshape(shape).clone() if fits else value
        elif key in source and (neutral := _neutral(key, given, source, official_name)) is not None:
            canonical[key] = neutral
    canonical.update({key: value for key, value in given.items() if key not in table})
    return zoo, canonical


def to_official(state: Mapping[str, Tensor], official_name: str) -> dict[str, Tensor]:
    """Rename our weights to those of a published network; what that network does not have is left out.

    Raises:
        UsageError: an unknown name.
        WeightsError: a tensor that the network needs is missing.
    """
    place = layout(official_name)
    result = {}
    for theirs, ours in official_table(official_name).items():
        if not ours:
            continue
        if ours[0] not in state:
            raise WeightsError(f"{official_name!r} needs the tensor {ours[0]!r}, which is not among the weights")
        shared = len(ours) > 1
        result[theirs] = state[ours[0]].reshape(1, -1, 1, 1).clone() if shared else state[ours[0]]
    anchors = load_spec(place.zoo).anchors
    if anchors is not None:
        with torch.device("meta"):
            strides = build_model(place.zoo).strides
        pixels = torch.tensor(anchors)  # [scales, boxes per cell, (width, height)]
        result[f"model.{place.head}.anchors"] = pixels / torch.tensor(strides).view(-1, 1, 1)
        result[f"model.{place.head}.anchor_grid"] = pixels.view(len(anchors), 1, -1, 1, 1, 2)
    return result


def anchors_of(state: Mapping[str, Tensor]) -> tuple[tuple[tuple[float, float], ...], ...] | None:
    """Anchor boxes (width, height) in pixels per scale, where published weights hold them."""
    for key, value in state.items():
        if key.endswith(".anchor_grid") and value.dim() == 6 and value.shape[-1] == 2:
            return tuple(
                tuple((float(w), float(h)) for w, h in scale.reshape(-1, 2).tolist()) for scale in value.float()
            )
    return None


def _closest(given: Mapping[str, Tensor]) -> tuple[float, str]:
    """The share of names and shapes that agree, and the published network, with its head at the same place first."""
    layers = {int(found[1]) for key in given if (found := _LAYER.match(key))}
    names = sorted(official_names(), key=lambda name: layout(name).head != max(layers, default=-1))
    best = (-1.0, "")
    for official_name in names:
        share = _share(given, official_name)
        if share == 1:
            return share, official_name
        best = max(best, (share, official_name), key=lambda pair: pair[0])
    return best


def _share(given: Mapping[str, Tensor], official_name: str) -> float:
    table, own = official_table(official_name), shapes(layout(official_name).zoo)
    uncounted = {key for key, ours in table.items() if not ours or _CLASSES.search(ours[0])}
    agree = 0
    for key, ours in table.items():
        if key in given and key not in uncounted:
            agree += given[key].shape == own[ours[0]] or (len(ours) > 1 and given[key].numel() == own[ours[0]][1])
    return agree / max(len((given.keys() | table.keys()) - uncounted), 1)


def _neutral(key: str, given: Mapping[str, Tensor], source: Mapping[str, str], official_name: str) -> Tensor | None:
    """An implicit vector that changes nothing, as wide as the head's convolution."""
    head, _, rest = key.partition(".implicit_")
    value = neutral_values(official_name).get(f"implicit_{rest.partition('.')[0]}")
    weight = given.get(source.get(f"{head}.head_conv.weight", ""))
    if value is None or weight is None or weight.dim() != 4:
        return None
    return torch.full((1, weight.shape[1] if rest.startswith("a") else weight.shape[0], 1, 1), value)
