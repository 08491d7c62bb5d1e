"""Class names from a file: a list, a mapping, a ``data.yaml``, or a COCO json. Importable without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from yolo.core.errors import UsageError


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read class names in order of their index.

    Accepted: ``["cat", "dog"]``; ``{"0": "cat", "1": "dog"}``; either of them below ``names`` (``classes.json``,
    ``data.yaml``); a COCO json with ``categories`` (order by id). A ``.txt`` file holds one name a line.

    Raises:
        UsageError: the file is not there, cannot be parsed, or holds none of these.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"class names: {str(file)!r} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"class names: {str(file)!r} cannot be read as text: {error}") from None
    if file.suffix.lower() == ".txt":
        return _as_names([line.strip() for line in text.splitlines() if line.strip()], file)
    try:
        # The base loader leaves every word as it is written: a class called `no` is no boolean.
        content = yaml.load(text, yaml.BaseLoader) if file.suffix.lower() in {".yaml", ".yml"} else json.loads(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"class names: {str(file)!r} cannot be parsed: {reason}") from None
    return _as_names(content, file)


def _as_names(content: Any, file: Path) -> tuple[str, ...]:
    if isinstance(content, dict) and "names" in content:
        content = content["names"]
    if isinstance(content, dict) and isinstance(content.get("categories"), list):
        try:
            content = [entry["name"] for entry in sorted(content["categories"], key=lambda entry: entry["id"])]
        except (KeyError, TypeError):
            raise UsageError(f"class names: {str(file)!r}: every category needs an 'id' and a 'name'") from None
    if isinstance(content, dict):
        numbers = {int(key): value for key, value in content.items() if str(key).isdecimal()}
        if sorted(numbers) != list(range(len(content))):
            raise UsageError(f"class names: {str(file)!r}: the keys must be 0, 1, 2 and so on without gaps")
        content = [numbers[index] for index in range(len(numbers))]
    if not isinstance(content, list) or not content or not all(isinstance(name, (str, int, float)) for name in content):
        raise UsageError(
            f'class names: {str(file)!r} must hold a list such as ["cat", "dog"], or {{"0": "cat", "1": "dog"}}'
        )
    return tuple(str(name) for name in content)
