"""From the mapping of a model file to typed layers: names, tags and sources are resolved here.

What the blocks themselves ask for (arguments, channels) is checked in :mod:`yolo.core.models.plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo.core.models.class_width import PUBLISHED_WIDTH, ClassWidth
from yolo.core.models.layers import INPUT, SECTIONS, LayerSpec, ModelSpec, SpecError
from yolo.core.models.yaml_text import refuse_unknown
from yolo.core.plugins.suggest import unknown_name

_TOP_KEYS = {"name", "class_width", "anchor", "model"}
_MOST_BINS, _MOST_LAYERS, _LARGEST_SIDE = 1024, 10_000, 1 << 16
_LAYER_KEYS = {"args", "source", "tags", "output"}


def parse_spec(
    mapping: Mapping[str, Any], where: str = "model", *, lines: Mapping[tuple[str, int], int] | None = None
) -> ModelSpec:
    """Typed form of a model file's mapping.

    Args:
        mapping: the sections, at the top or below ``model``, with ``name``, ``class_width`` and ``anchor`` beside them.
        where: the file's name, for messages.
        lines: line of each layer, by section and position.

    Raises:
        SpecError: what is wrong, with file and layer.
    """
    inner = mapping.get("model", {})
    if not isinstance(inner, Mapping):
        raise SpecError(f"{where}: model: must be a mapping of sections, not {_kind(inner)}")
    refuse_unknown(mapping, _TOP_KEYS | set(SECTIONS), where)
    refuse_unknown(inner, set(SECTIONS), f"{where}: model")
    sections = {**{key: value for key, value in mapping.items() if key in SECTIONS}, **inner}
    for required in ("backbone", "detection"):
        if not sections.get(required):
            raise SpecError(f"{where}: the section {required!r} is missing or empty")
    if "auxiliary" in sections and list(sections)[-1] != "auxiliary":
        raise SpecError(f"{where}: the section 'auxiliary' must come last; it is left away after training")
    name = mapping.get("name", where)
    if not isinstance(name, str):
        raise SpecError(f"{where}: name: must be text, not {_kind(name)}")
    reg_max, strides, anchors = _anchor(mapping.get("anchor") or {}, where)
    return ModelSpec(
        name=name,
        layers=_Parser(where, lines or {}).layers(sections),
        class_width=_class_width(mapping, where),
        reg_max=reg_max,
        strides=strides,
        anchors=anchors,
    )


def _class_width(mapping: Mapping[str, Any], where: str) -> ClassWidth:
    if "class_width" not in mapping:
        return PUBLISHED_WIDTH
    return ClassWidth.parse(mapping["class_width"], where=f"{where}: class_width")


_Anchors = tuple[tuple[tuple[float, float], ...], ...]


def _anchor(anchor: Any, where: str) -> tuple[int, tuple[int, ...] | None, _Anchors | None]:
    if not isinstance(anchor, Mapping):
        raise SpecError(f"{where}: anchor: must be a mapping such as {{reg_max: 16}}, not {_kind(anchor)}")
    refuse_unknown(anchor, {"reg_max", "strides", "anchor"}, f"{where}: anchor")
    bins, strides = anchor.get("reg_max", 16), anchor.get("strides")
    if not _is_count(bins) or not 2 <= bins <= _MOST_BINS:
        raise SpecError(f"{where}: anchor: reg_max: must be a whole number from 2 to {_MOST_BINS}, not {bins!r}")
    if strides is not None:
        if not isinstance(strides, (list, tuple)) or not all(map(_is_count, strides)):
            raise SpecError(f"{where}: anchor: strides: must be a list of whole numbers, not {strides!r}")
        strides = tuple(strides)
    boxes = anchor.get("anchor")
    if boxes is None:
        return bins, strides, None
    if not isinstance(boxes, (list, tuple)) or not boxes:
        raise SpecError(f"{where}: anchor: anchor: must be one list of sides per scale, not {boxes!r}")
    return bins, strides, tuple(_anchor_boxes(scale, where) for scale in boxes)


def _anchor_boxes(sides: Any, where: str) -> tuple[tuple[float, float], ...]:
    if not isinstance(sides, (list, tuple)) or not sides or len(sides) % 2 or not all(map(_is_side, sides)):
        raise SpecError(
            f"{where}: anchor: anchor: a scale must be a list [width, height, width, height, ...] in pixels, "
            f"not {sides!r}"
        )
    return tuple((float(width), float(height)) for width, height in zip(sides[::2], sides[1::2], strict=True))


class _Parser:
    """Collects the layers of one file in order, with the tags seen so far."""

    def __init__(self, where: str, lines: Mapping[tuple[str, int], int]) -> None:
        self.where, self.lines = where, lines
        self.found: list[LayerSpec] = []
        self.tags: dict[str, int] = {}
        self.later: set[str] = set()

    def layers(self, sections: Mapping[str, Any]) -> tuple[LayerSpec, ...]:
        for section, items in sections.items():
            if items is not None and not isinstance(items, (list, tuple)) and items != {}:
                raise SpecError(f"{self.where}: {section}: must be a list of layers, not {_kind(items)}")
        todo = [(name, n, item) for name, items in sections.items() for n, item in enumerate(items or ())]
        if len(todo) > _MOST_LAYERS:
            raise SpecError(f"{self.where}: {len(todo)} layers; {_MOST_LAYERS} are possible")
        self.later = {tag for _, _, item in todo if (tag := _tag_of(item)) is not None}
        for section, position, item in todo:
            self.found.append(self._layer(section, position, item))
        return tuple(self.found)

    def _layer(self, section: str, position: int, item: Any) -> LayerSpec:
        index = len(self.found)
        line = self.lines.get((section, position))
        where = f"{self.where}{f':{line}' if line else ''}: {section} layer {index}"
        if isinstance(item, str):
            item = {item: {}}
        if not isinstance(item, Mapping) or len(item) != 1:
            raise SpecError(f"{where}: must be one block, `Block: {{args: ..., source: ..., tags: ...}}`, not {item!r}")
        block, body = next(iter(item.items()))
        where = f"{where} ({block})"
        body = {} if body is None else body
        if not isinstance(body, Mapping):
            raise SpecError(f"{where}: must hold args, source and tags, not {_kind(body)}")
        refuse_unknown(body, _LAYER_KEYS, where)
        args = body.get("args") or {}
        if not isinstance(args, Mapping):
            raise SpecError(f"{where}: args: must be a mapping of names to values, not {_kind(args)}")
        layer = LayerSpec(index, section, str(block), args, (), None, where)
        sources = self._sources(layer, body.get("source", -1))
        return LayerSpec(index, section, str(block), args, sources, self._tag(layer, body.get("tags")), where)

    def _tag(self, layer: LayerSpec, tag: Any) -> str | None:
        if tag is None:
            return None
        if not isinstance(tag, str) or not tag:
            raise layer.error(f"tags: must be one name, not {tag!r}")
        if tag in self.tags:
            raise layer.error(f"tag {tag!r} is already the tag of layer {self.tags[tag]}; choose another")
        self.tags[tag] = layer.index
        return tag

    def _sources(self, layer: LayerSpec, written: Any) -> tuple[int, ...]:
        entries = written if isinstance(written, (list, tuple)) else [written]
        if not entries:
            raise layer.error("source: the list is empty")
        return tuple(self._source(layer, entry) for entry in entries)

    def _source(self, layer: LayerSpec, entry: Any) -> int:
        if isinstance(entry, str):
            if entry in self.tags:
                return self.tags[entry]
            if entry in self.later:
                raise layer.error(f"source {entry!r} is this layer or a later one; sources come before their readers")
            raise layer.error("source: " + unknown_name("tag", entry, self.tags))
        if not isinstance(entry, int) or isinstance(entry, bool):
            raise layer.error(f"source: must be a tag or a whole number, not {entry!r}")
        # Written numbers count layers from 1, so that 0 can mean the image; negative ones count back from here.
        source = entry - 1 if entry >= 0 else layer.index + entry
        if source >= layer.index:
            raise layer.error(
                f"source {entry} (counted from 1) is this layer or a later one; sources come before their readers"
            )
        if source < INPUT:
            raise layer.error(f"source {entry} points before the image; at most {-layer.index - 1} is possible here")
        return source


def _tag_of(item: Any) -> str | None:
    body = next(iter(item.values()), None) if isinstance(item, Mapping) else None
    tag = body.get("tags") if isinstance(body, Mapping) else None
    return tag if isinstance(tag, str) else None


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_side(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _LARGEST_SIDE
