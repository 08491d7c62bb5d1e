"""Networks as data: published ones by name, others from a YAML file. This module imports no torch.

The language is the published one of the MIT YOLO code base: sections ``backbone``, ``neck``, ``head``, ``detection``
and ``auxiliary``, each a list of ``Block: {args: {...}, source: ..., tags: ...}``. A source is a tag, the number of a
layer counted from 1 (0 is the image), a negative number relative to the layer (default -1), or a list of these.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from yolo.core.errors import UsageError
from yolo.core.models.layers import INPUT, SECTIONS, LayerSpec, ModelSpec, SpecError
from yolo.core.models.parse import parse_spec
from yolo.core.models.yaml_text import read_text
from yolo.core.plugins.suggest import unknown_name

__all__ = ["INPUT", "SECTIONS", "LayerSpec", "ModelSpec", "SpecError", "load_spec", "parse_spec", "zoo_names"]

_FAMILIES = ("v9", "gelan", "rd", "v7")
_SUFFIXES = (".yaml", ".yml")


@cache
def zoo_names() -> tuple[str, ...]:
    """Names of the networks that come with the package: by family, small to large."""
    names = [entry.name.removesuffix(".yaml") for entry in _zoo().iterdir() if entry.name.endswith(".yaml")]
    return tuple(sorted(names, key=_rank))


def _rank(name: str) -> tuple[int, int, str]:
    family, sizes = name.split("-")[0], "tsmce"
    return _FAMILIES.index(family) if family in _FAMILIES else len(_FAMILIES), sizes.find(name[-1]), name


def load_spec(name_or_path: str | Path) -> ModelSpec:
    """The network of that name, or of that YAML file.

    Raises:
        UsageError: no such name or file.
        SpecError: a mistake in the file.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in zoo_names():
        return parse_text(_zoo().joinpath(f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")
    path = Path(name_or_path)
    if path.is_file():
        return _read_file(path)
    if path.suffix.lower() in _SUFFIXES or isinstance(name_or_path, Path):
        raise UsageError(f"model file {name!r} does not exist; give a path, or a name: {', '.join(zoo_names())}")
    raise UsageError(f"{unknown_name('model', name, zoo_names())} A path to a YAML file works, too.")


def parse_text(text: str, where: str) -> ModelSpec:
    """Typed form of a model file's text; ``where`` is its name for messages and the default for ``name``.

    Raises:
        SpecError: a mistake in the text.
    """
    read = read_text(text, where)
    stem = where.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return parse_spec({"name": stem, **read.content}, where, lines=read.lines)


def _read_file(path: Path) -> ModelSpec:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file (UTF-8 expected)") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_text(text, str(path))


def _zoo() -> Traversable:
    return files("yolo.core.models") / "zoo"
