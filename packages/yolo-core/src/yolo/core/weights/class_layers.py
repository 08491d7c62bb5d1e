"""Which tensors have rows of classes, and which class of a file each class of a network takes its rows from.

The last layer of a class branch has one row per class. A head with anchors (YOLOv7, arXiv:2207.02696) keeps box,
objectness and classes in one layer: per anchor five rows, then one per class; its implicit factor likewise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

_ANCHOR_ROWS = 5  # x, y, width, height, objectness


@dataclass(frozen=True)
class ClassLayer:
    """Where the rows of classes are in a tensor.

    Attributes:
        dim: the dimension over rows.
        lead: rows in front of the classes, per group; a group is an anchor.
    """

    dim: int
    lead: int

    def groups(self, rows: int, num_classes: int) -> int:
        """Number of groups that so many rows are; 0 when that number of classes does not explain them."""
        count, rest = divmod(rows, self.lead + num_classes)
        return 0 if rest else count

    def num_classes(self, rows: int, groups: int) -> int:
        """Number of classes that so many rows are; 0 when they are not that many groups."""
        size, rest = divmod(rows, groups)
        return 0 if rest or size <= self.lead else size - self.lead


_LAYERS = (
    (re.compile(r"\d+\.heads\.\d+\.class_conv\.2\.(weight|bias)"), ClassLayer(dim=0, lead=0)),
    (re.compile(r"\d+\.heads\.\d+\.head_conv\.(weight|bias)"), ClassLayer(dim=0, lead=_ANCHOR_ROWS)),
    (re.compile(r"\d+\.heads\.\d+\.implicit_m\.implicit"), ClassLayer(dim=1, lead=_ANCHOR_ROWS)),
)


def class_layer(key: str) -> ClassLayer | None:
    """Say how the tensor of that name is made of classes; None when it is not."""
    return next((layer for pattern, layer in _LAYERS if pattern.fullmatch(key)), None)


@dataclass(frozen=True)
class ClassMatch:
    """Which classes of a file the classes of a network are.

    Attributes:
        sources: per class of the network its number in the file; None: not in the file.
        in_file: number of classes in the file.
        how: matched by name, taken over in order, or not at all.
    """

    sources: tuple[int | None, ...]
    in_file: int
    how: Literal["name", "order", "none"]


def match_classes(
    names: Sequence[str] | None, file_names: Sequence[str] | None, *, num_classes: int, in_file: int
) -> ClassMatch:
    """Find the classes of a network in a file.

    With names on both sides, classes of the same name belong together, whatever their order; upper and lower case and
    surrounding blanks do not count. Otherwise equal numbers of classes are taken over in order, and others not at all.

    Args:
        names: of the network's classes. Names that are but the numbers 0, 1, ... count as unknown, as does a list of
            another length than the number of classes.
        file_names: of the file's classes.
        num_classes: classes of the network.
        in_file: classes of the file.
    """
    here, there = _known(names, num_classes), _known(file_names, in_file)
    if here is None or there is None:
        if num_classes == in_file:
            return ClassMatch(tuple(range(num_classes)), in_file, "order")
        return ClassMatch((None,) * num_classes, in_file, "none")
    if here == there:  # also where a name occurs twice
        return ClassMatch(tuple(range(num_classes)), in_file, "name")
    places = {name: index for index, name in reversed(list(enumerate(there)))}
    return ClassMatch(tuple(places.get(name) for name in here), in_file, "name")


def row_pairs(layer: ClassLayer, own: Tensor, given: Tensor, match: ClassMatch) -> tuple[list[int], list[int]] | None:
    """List the rows of a tensor that come from a file, and where they are there.

    Args:
        layer: what :func:`class_layer` says of the tensor.
        own: of the network.
        given: of the file.
        match: the classes.

    Returns:
        Row numbers in the network and in the file, of equal length; None when the tensors differ in more than classes.
    """
    num_classes = len(match.sources)
    if own.dim() != given.dim() or own.dim() <= layer.dim:
        return None
    others = [size for dim, size in enumerate(own.shape) if dim != layer.dim]
    if others != [size for dim, size in enumerate(given.shape) if dim != layer.dim]:
        return None
    groups = layer.groups(own.shape[layer.dim], num_classes)
    if groups == 0 or given.shape[layer.dim] != groups * (layer.lead + match.in_file):
        return None
    here: list[int] = []
    there: list[int] = []
    for group in range(groups):
        start, file_start = group * (layer.lead + num_classes), group * (layer.lead + match.in_file)
        pairs = [(row, row) for row in range(layer.lead)]
        pairs += [(layer.lead + to, layer.lead + at) for to, at in enumerate(match.sources) if at is not None]
        here += [start + row for row, _ in pairs]
        there += [file_start + row for _, row in pairs]
    return here, there


def _known(names: Sequence[str] | None, count: int) -> list[str] | None:
    if names is None or len(names) != count or list(names) == [str(number) for number in range(count)]:
        return None
    return [name.strip().casefold() for name in names]
