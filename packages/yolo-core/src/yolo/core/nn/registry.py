"""Blocks by the names that model files use, with what is needed to check a file before anything is built.

This module imports no torch; the families are imported when the first block is asked for. A new block is one class in a
family file (or a new file named in ``FAMILIES``)::

    @register_block("AConv")
    class AConv(nn.Module):
        def __init__(self, in_channels: int, out_channels: int) -> None: ...

        @staticmethod
        def infer(inputs: Inputs, args: Args) -> Shape: ...

The parameters of ``__init__`` that are not supplied by the builder (:data:`SUPPLIED`) are the arguments of the layer in
a model file, checked against their annotations. ``infer`` is arithmetic only: it gives the output shape, and raises
:class:`ShapeError` where the inputs do not fit.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, cast

FAMILIES = ("conv", "rep", "elan", "retriever", "downsample", "spp", "fusion", "head")
SUPPLIED = frozenset({"in_channels", "num_classes", "class_channels", "reg_max", "anchors"})


class Shape(NamedTuple):
    """The shape of one feature map without the batch axis, in cells."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


Output = Shape | tuple[Shape, ...]
"""What a layer gives: one map, or several (CBLinear, and the heads: one per scale)."""

Inputs = tuple[Output, ...]
"""What the sources of a layer give, in the order of the file."""

Args = Mapping[str, Any]
"""All arguments of a layer, defaults filled in."""


class ShapeError(ValueError):
    """Inputs that do not fit a block; the message completes the sentence '<layer>: ...'."""


class Infer(Protocol):
    """Output shape of a block from the shapes of its sources and its arguments."""

    def __call__(self, inputs: Inputs, args: Args) -> Output:
        """Compute the shape, or raise :class:`ShapeError`."""


class BlockClass(Protocol):
    """What the registry expects of a block class."""

    infer: Infer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Build the module."""


@dataclass(frozen=True)
class BlockEntry:
    """One registered block.

    Attributes:
        name: how model files call it.
        factory: the class.
        many: whether it reads a list of sources (it is then called with a list, also for one source).
        head: whether it predicts; it then gets ``num_classes``, ``class_channels``, ``reg_max`` and ``anchors``.
    """

    name: str
    factory: BlockClass
    many: bool = False
    head: bool = False


_entries: dict[str, BlockEntry] = {}
_Class = TypeVar("_Class", bound=type)


def register_block(name: str, *, many: bool = False, head: bool = False) -> Callable[[_Class], _Class]:
    """Enter a block class under the name that model files use.

    Raises:
        ValueError: another class has the name already.
    """

    def enter(cls: _Class) -> _Class:
        known = _entries.get(name)
        if known is not None and cast(type, known.factory).__qualname__ != cls.__qualname__:
            raise ValueError(f"block {name!r} is registered twice: {known.factory} and {cls}")
        _entries[name] = BlockEntry(name, cast(BlockClass, cls), many, head)
        return cls

    return enter


def blocks() -> Mapping[str, BlockEntry]:
    """All blocks by name; imports the families (and with them torch)."""
    for family in FAMILIES:
        importlib.import_module(f"yolo.core.nn.{family}")
    return _entries


def one_map(inputs: Inputs) -> Shape:
    """The only source of a block that reads one feature map.

    Raises:
        ShapeError: there are several sources, or the source gives a list of maps.
    """
    if len(inputs) != 1:
        raise ShapeError(f"reads one source, but {len(inputs)} are given")
    if not isinstance(inputs[0], Shape):
        raise ShapeError("its source gives a list of maps (only CBFuse can read one)")
    return inputs[0]


def all_maps(inputs: Inputs) -> tuple[Shape, ...]:
    """The sources of a block that reads several feature maps.

    Raises:
        ShapeError: a source gives a list of maps.
    """
    maps = tuple(shape for shape in inputs if isinstance(shape, Shape))
    if len(maps) != len(inputs):
        raise ShapeError("one of its sources gives a list of maps (only CBFuse can read one)")
    return maps


def slide(
    shape: Shape,
    channels: int,
    *,
    kernel: int | tuple[int, int],
    stride: int,
    padding: int | tuple[int, int],
    dilation: int = 1,
) -> Shape:
    """The shape after a sliding window (convolution or pooling, rounded down).

    Raises:
        ShapeError: the window is larger than the map.
    """
    sides = []
    for axis, side in enumerate((shape.height, shape.width)):
        k = kernel if isinstance(kernel, int) else kernel[axis]
        p = padding if isinstance(padding, int) else padding[axis]
        span = side + 2 * p - dilation * (k - 1) - 1
        if span < 0:
            raise ShapeError(f"its {k}-wide window does not fit the {shape} map")
        sides.append(span // stride + 1)
    return Shape(channels, *sides)
