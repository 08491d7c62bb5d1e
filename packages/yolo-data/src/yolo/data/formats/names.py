"""Class names: from data.yaml, classes.json or a COCO json to a clean tuple."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from yolo.data.formats import kinds
from yolo.data.formats.report import DataError, Place, Report, excerpt
from yolo.data.formats.textfile import decode, read_bytes


def names_from(value: object, *, where: Place, report: Report) -> tuple[str, ...]:
    """Return class names from a list, or from a mapping of index to name.

    Raises:
        DataError: naming ``where`` and what is wrong: no names, a gap in the indices, a name twice, not a list.
    """
    if isinstance(value, dict):
        value = _in_order(value, where=where, report=report)
    if not isinstance(value, list):
        raise _wrong(where, f"the names must be a list or a mapping of index to name, not {_kind(value)}")
    if not value:
        raise _wrong(where, "there are no class names")
    names = tuple(clean_name(name, f"class {index}", where=where, report=report) for index, name in enumerate(value))
    refuse_twins(names, where=where)
    return names


def clean_name(value: object, fallback: str, *, where: Place, report: Report) -> str:
    """Return one printable class name; repairs are reported."""
    if isinstance(value, bool | int | float):
        report.add(kinds.NAME_NOT_TEXT, where, str(value))
        return str(value)
    if not isinstance(value, str):
        raise _wrong(where, f"the name of {fallback} is {_kind(value)}, not text")
    name = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    name = name.encode("utf-8", "replace").decode()
    if name != value:
        report.add(kinds.NAME_CHANGED, where, excerpt(value))
    return name or fallback.replace(" ", "_")


def refuse_twins(names: tuple[str, ...], *, where: Place) -> None:
    """Raise DataError when two classes have one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _wrong(where, f"the class name {excerpt(twice[0])} occurs more than once; names must differ")


def read_classes_json(path: Path, report: Report) -> tuple[str, ...]:
    """Read ``classes.json``: a list of names, a mapping of index to name, or either under the key ``names``."""
    try:
        value = json.loads(decode(read_bytes(path, limit=1 << 24), path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise _wrong(Place(str(path)), f"not valid json: {error}") from None
    if isinstance(value, dict) and "names" in value:
        value = value["names"]
    return names_from(value, where=Place(str(path)), report=report)


def _in_order(mapping: dict[object, object], *, where: Place, report: Report) -> list[object]:
    by_index: dict[int, object] = {}
    for key, name in mapping.items():
        text = isinstance(key, str) and key.isascii() and key.isdigit()
        if not text and (isinstance(key, bool) or not isinstance(key, int)):
            raise _wrong(where, f"{excerpt(str(key))} is not a class index")
        if text:
            report.add(kinds.INDEX_TEXT, where)
        index = int(str(key))
        if index in by_index:
            raise _wrong(where, f"class index {index} occurs twice")
        by_index[index] = name
    for index in range(len(by_index)):
        if index not in by_index:
            raise _wrong(where, f"class index {index} has no name; indices must run from 0 without a gap")
    return [by_index[index] for index in range(len(by_index))]


def _wrong(where: Place, text: str) -> DataError:
    return DataError("class-names", where, text)


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    name = type(value).__name__
    return {"str": "one text", "list": "a list", "dict": "a mapping"}.get(name, name)
