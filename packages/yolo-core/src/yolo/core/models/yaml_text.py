"""YAML of model files with line numbers, so that a mistake can be pointed at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from yolo.core.models.layers import SECTIONS, SpecError
from yolo.core.plugins.suggest import unknown_name


@dataclass(frozen=True)
class ModelText:
    """A read model file.

    Attributes:
        content: its mapping, the published wrapper ``model:`` still in place.
        lines: line (from 1) of each layer, by section and position in it.
    """

    content: Mapping[str, Any]
    lines: Mapping[tuple[str, int], int]


def read_text(text: str, where: str) -> ModelText:
    """Parse the text of a model file.

    Raises:
        SpecError: no YAML, a key that is given twice, or not a mapping; with file and line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated_keys(root, where)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise SpecError(f"{where}: not valid YAML: nested too deeply") from None
    if not isinstance(content, dict):
        raise SpecError(f"{where}: a model file is a mapping with the sections {', '.join(SECTIONS)}")
    return ModelText(content, _layer_lines(root))


def _children(node: yaml.Node) -> list[tuple[Any, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        return [(key.value, value) for key, value in node.value]
    return list(enumerate(node.value)) if isinstance(node, yaml.SequenceNode) else []


def _refuse_repeated_keys(node: yaml.Node | None, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen and name != "<<":
                raise SpecError(f"{where}:{key.start_mark.line + 1}: {name!r} is given twice; remove or join one")
            seen.add(name)
    if node is not None:
        for _, child in _children(node):
            _refuse_repeated_keys(child, where)


def _layer_lines(root: yaml.Node | None) -> dict[tuple[str, int], int]:
    if root is None:
        return {}
    top = dict(_children(root))
    sections = dict(_children(top["model"])) if "model" in top else top
    return {
        (name, position): item.start_mark.line + 1
        for name in SECTIONS
        if name in sections
        for position, item in _children(sections[name])
    }


def refuse_unknown(keys: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raise for the first key that nobody reads.

    Raises:
        SpecError: with a suggestion.
    """
    for key in keys:
        if key not in known:
            raise SpecError(f"{where}: {unknown_name('key', str(key), known)}")
