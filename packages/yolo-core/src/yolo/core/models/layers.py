"""The typed form of a model file: a list of layers in which every source is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from yolo.core.errors import UsageError
from yolo.core.models.class_width import PUBLISHED_WIDTH, ClassWidth

SECTIONS = ("backbone", "neck", "head", "detection", "auxiliary")
INPUT = -1
"""The source that stands for the input image."""


class SpecError(UsageError):
    """A mistake in a model file; the message names the file and the layer."""


@dataclass(frozen=True)
class LayerSpec:
    """One layer of a model file.

    Attributes:
        index: position in the network, from 0; the layer's parameters are called ``<index>.``...
        section: one of :data:`SECTIONS`.
        block: registered name of the block.
        args: arguments as written.
        sources: layers that it reads, as indexes; :data:`INPUT` is the image.
        tag: name for use as a source, if any.
        where: file, line and layer, for messages.
    """

    index: int
    section: str
    block: str
    args: Mapping[str, Any]
    sources: tuple[int, ...]
    tag: str | None = None
    where: str = field(default="", compare=False)

    @property
    def auxiliary(self) -> bool:
        """Whether the layer serves training only."""
        return self.section == "auxiliary"

    def error(self, message: str) -> SpecError:
        """A mistake in this layer, to raise."""
        return SpecError(f"{self.where}: {message}")

    def to_item(self) -> dict[str, Any]:
        """The layer in the language of model files, its sources counted from 1 (0 is the image)."""
        body: dict[str, Any] = {"args": _plain(self.args)} if self.args else {}
        numbers = [source + 1 for source in self.sources]
        body["source"] = numbers[0] if len(numbers) == 1 else numbers
        if self.tag is not None:
            body["tags"] = self.tag
        return {self.block: body}


@dataclass(frozen=True)
class ModelSpec:
    """A network as data.

    Attributes:
        name: of the model; by default the file's name.
        layers: in order of evaluation.
        class_width: width of the class branches.
        reg_max: bins per side of a box.
        strides: what the file says about the strides of the heads; the graph must agree.
        anchors: (width, height) in pixels of the anchor boxes of each scale, for heads that have them.
    """

    name: str
    layers: tuple[LayerSpec, ...]
    class_width: ClassWidth = PUBLISHED_WIDTH
    reg_max: int = 16
    strides: tuple[int, ...] | None = None
    anchors: tuple[tuple[tuple[float, float], ...], ...] | None = None

    def __iter__(self) -> Iterator[LayerSpec]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def with_class_width(self, value: ClassWidth | int | Mapping[str, Any] | None) -> ModelSpec:
        """The same network with another class-branch width; ``None`` changes nothing."""
        return self if value is None else replace(self, class_width=ClassWidth.parse(value))

    def without_auxiliary(self) -> ModelSpec:
        """The network to deploy: the section ``auxiliary`` is left away."""
        return replace(self, layers=tuple(layer for layer in self.layers if not layer.auxiliary))

    def section(self, name: str) -> tuple[LayerSpec, ...]:
        """The layers of one section; empty when the file has none of that name."""
        return tuple(layer for layer in self.layers if layer.section == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data in the language of model files; ``parse_spec`` gives an equal object back."""
        anchor: dict[str, Any] = {"reg_max": self.reg_max}
        if self.strides is not None:
            anchor["strides"] = list(self.strides)
        if self.anchors is not None:
            anchor["anchor"] = [[side for box in scale for side in box] for scale in self.anchors]
        plain: dict[str, Any] = {"name": self.name, "class_width": self.class_width.to_plain(), "anchor": anchor}
        for layer in self.layers:
            plain.setdefault(layer.section, []).append(layer.to_item())
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
