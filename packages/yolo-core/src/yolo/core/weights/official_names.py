"""The tables between the names in published files and ours, made from ``official_names.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
import yaml

from yolo.core.errors import UsageError
from yolo.core.models.build import build_model
from yolo.core.models.spec import load_spec
from yolo.core.plugins.suggest import unknown_name

_NUMBER = re.compile(r"<([a-z])>")


@dataclass(frozen=True)
class Layout:
    """Where the layers of a published network are in ours.

    Attributes:
        zoo: name of ours.
        layers: rows (first, last, step): their layer n of first..last is our n + step.
        head: their layer with the heads.
        heads: our head layers, each with the name of the table of its tensors.
    """

    zoo: str
    layers: tuple[tuple[int, int, int], ...]
    head: int
    heads: Mapping[int, str]


@cache
def _data() -> dict[str, Any]:
    text = files("yolo.core.weights").joinpath("official_names.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    return data


def official_names() -> tuple[str, ...]:
    """Published networks whose names are known: ``"yolov9-t"`` and so on."""
    return tuple(_data()["networks"])


def layout(official_name: str) -> Layout:
    """The layout of a published network.

    Raises:
        UsageError: an unknown name.
    """
    entry = _data()["networks"].get(official_name)
    if entry is None:
        raise UsageError(unknown_name("published network", official_name, official_names()))
    return Layout(entry["zoo"], tuple((a, b, step) for a, b, step in entry["layers"]), entry["head"], entry["heads"])


@cache
def shapes(zoo: str) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a network of ours with 80 classes, auxiliary branch included, in its order."""
    with torch.device("meta"):
        network = build_model(zoo)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@cache
def official_table(official_name: str) -> Mapping[str, tuple[str, ...]]:
    """Every tensor of a published network, ``"model.0.conv.weight"``, with the tensors of ours that it gives.

    Usually one; the projection of the box distribution is one tensor for all scales there, and one per scale here; none
    for a buffer that is computed here.

    Raises:
        UsageError: an unknown name.
    """
    place = layout(official_name)
    blocks = {layer.index: layer.block for layer in load_spec(place.zoo).layers}
    table: dict[str, list[str]] = {}
    for key in shapes(place.zoo):
        number, rest = key.split(".", 1)
        index = int(number)
        if index in place.heads:
            theirs, rules = place.head, _data()["heads"][place.heads[index]]
        else:
            found = [index - step for first, last, step in place.layers if first <= index - step <= last]
            if not found:
                continue
            theirs, rules = found[0], _data()["blocks"].get(blocks[index], {})
        table.setdefault(f"model.{theirs}.{_renamed(rest, rules)}", []).append(key)
    dropped = [name for kind in place.heads.values() for name in _data()["dropped"].get(kind, ())]
    return {key: tuple(ours) for key, ours in table.items()} | {f"model.{place.head}.{name}": () for name in dropped}


def neutral_values(official_name: str) -> Mapping[str, float]:
    """Tensors of ours that deployed files leave away, by attribute of a head, with the number that stands for them."""
    return {
        name: value
        for kind in layout(official_name).heads.values()
        for name, value in _data()["neutral"].get(kind, {}).items()
    }


def _renamed(name: str, rules: Mapping[str, str]) -> str:
    for ours, theirs in rules.items():
        found = _pattern(ours).match(name)
        if found:
            return _NUMBER.sub(r"{\1}", theirs).format_map(found.groupdict()) + name[found.end() :]
    return name


@cache
def _pattern(beginning: str) -> re.Pattern[str]:
    parts = _NUMBER.split(beginning)  # text, letter, text, letter, ..., text
    literal, letters = [re.escape(part) for part in parts[::2]], parts[1::2]
    marks = [rf"(?P<{letter}>\d+)" for letter in letters]
    return re.compile("".join(a + b for a, b in zip(literal, [*marks, ""], strict=True)) + r"(?=\.)")
