"""``data.yaml``: where the splits of a YOLO data set are, and what its classes are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yolo.data.formats import kinds
from yolo.data.formats.names import names_from
from yolo.data.formats.report import DataError, Place, Report, show
from yolo.data.formats.textfile import decode, read_bytes

_LIMIT = 1 << 20
_KEPT = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"}
_AMBIGUOUS = re.compile(r"(?i)^(yes|no|on|off|true|false|[-+]?[0-9.][0-9._]*(e[-+]?[0-9]+)?)$")
_ALIASES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class _Loader(yaml.SafeLoader):
    """Safe, refuses a key that is written twice, and leaves words like ``no`` and ``1.0`` as they are written."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value[:40]!r} is written twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Plain(str):
    """A text that is written without quotes."""


def _text_node(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    return text if node.style else _Plain(text)


_Loader.add_constructor("tag:yaml.org,2002:str", _text_node)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag in _KEPT]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class DataYaml:
    """The parts of a ``data.yaml`` that matter here; a ``download`` key is never run.

    Attributes:
        path: the file.
        base: absolute folder that the sources are relative to.
        names: class names, or None when the file has none.
        sources: for each split that the file mentions, the folders or list files as written.
    """

    path: Path
    base: Path
    names: tuple[str, ...] | None
    sources: dict[str, tuple[str, ...]]

    def resolve(self, split: str) -> list[Path]:
        """Absolute folders or list files of a split.

        Raises:
            DataError: the file does not name the split, or names something that is not there (with the path tried).
        """
        if split not in self.sources:
            raise _wrong(self.path, f"there is no key `{split}`: add it, or set data.{split}_images")
        found = []
        for source in self.sources[split]:
            tried = [self.base / source]
            if source.startswith("../"):  # Roboflow writes ../train/images for the folder beside the file
                tried.append(self.base / source[3:])
            hit = next((path for path in tried if path.exists()), None)
            if hit is None:
                raise _wrong(self.path, f"`{split}` names {show(tried[0].resolve())}, which does not exist")
            found.append(hit)
        return found


def read_data_yaml(path: Path, report: Report) -> DataYaml:
    """Read a ``data.yaml``.

    Raises:
        DataError: naming the file, and the line where there is one.
    """
    value = _load(path)
    if not isinstance(value, dict):
        raise _wrong(path, "a mapping with train, val and names is expected")
    base = path.absolute().parent
    if value.get("path") is not None:
        base = base / _text(value["path"], "path", path)
        if not base.is_dir():
            raise _wrong(path, f"`path` names {show(base)}, which does not exist; correct or remove it")
    sources = {}
    for split, keys in _ALIASES.items():
        given = next((value[key] for key in keys if value.get(key) is not None), None)
        if given is not None:
            items = given if isinstance(given, list) else [given]
            unique = dict.fromkeys(_text(item, split, path) for item in items)
            if len(unique) != len(items):
                count = len(items) - len(unique)
                report.add(kinds.REPEATED_SOURCE, Place(str(path)), f"`{split}`", count=count)
            sources[split] = tuple(unique)
    return DataYaml(path, base, _names(value, path, report), sources)


def _load(path: Path) -> object:
    text = decode(read_bytes(path, limit=_LIMIT), path)
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DataError("bad-yaml", Place(str(path), line), str(error.problem)) from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise _wrong(path, f"not valid YAML: {str(error).splitlines()[0][:200]}") from None


def _names(value: dict[str, Any], path: Path, report: Report) -> tuple[str, ...] | None:
    count, where = value.get("nc"), Place(str(path))
    if count is not None and (not isinstance(count, int) or count < 1):
        raise _wrong(path, "`nc` must be a whole number, 1 or more")
    if value.get("names") is None:
        if count is None:
            return None
        report.add(kinds.MISSING_NAMES, where, count=count)
        return tuple(f"class{index}" for index in range(count))
    names = names_from(value["names"], where=Place(str(path), what="names"), report=report)
    if count is not None and count != len(names):
        raise _wrong(path, f"`nc` is {count}, but there are {len(names)} names")
    written = value["names"].values() if isinstance(value["names"], dict) else value["names"]
    for name in written:
        if isinstance(name, _Plain) and _AMBIGUOUS.match(name):
            report.add(kinds.NAME_AMBIGUOUS, where, name)
    return names


def _text(value: object, key: str, path: Path) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(path, f"`{key}` must be the path of a folder or list file")
    return value


def _wrong(path: Path, text: str) -> DataError:
    return DataError("bad-yaml", Place(str(path)), text)
