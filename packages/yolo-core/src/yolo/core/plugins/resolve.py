"""From what a user wrote in a config to the thing and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from .hookspecs import HOOKS
from .manager import registry
from .targets import load_class_path


def resolve(kind: str, value: Any) -> tuple[Any, dict[str, Any]]:
    """Find the thing that a config value names.

    Args:
        kind: one of :data:`yolo.core.plugins.KINDS`.
        value: one of

            - ``"turbojpeg"``: a registered name;
            - ``"my_package.module.Class"``: an import path;
            - ``{"class_path": name or path, "init_args": {...}}`` (or an object with these attributes, as jsonargparse
              makes them);
            - ``{"use": name or path, "p": 0.5, ...}``: every other key is an argument.

    Returns:
        The imported object (usually a class), and the arguments to call it with. Nothing is called here.

    Raises:
        UsageError: the value has another form, or the name is not known (with a suggestion).
        YoloError: the target does not import.
    """
    name, arguments = _split(kind, value)
    loaded = load_class_path(name) if "." in name or ":" in name else registry(kind).load(name)
    return loaded, arguments


def _split(kind: str, value: Any) -> tuple[str, dict[str, Any]]:
    what = HOOKS[kind][2]
    if isinstance(value, str):
        return _checked(what, value), {}
    fields = _as_mapping(value)
    if fields is None or not ("class_path" in fields or "use" in fields):
        raise UsageError(
            f"Name the {what} by a name, by 'use: name', or by 'class_path' with 'init_args'; not by {value!r}."
        )
    if "class_path" not in fields:
        return _checked(what, fields["use"]), {str(key): item for key, item in fields.items() if key != "use"}
    unknown = sorted(set(fields) - {"class_path", "init_args", "dict_kwargs"})
    if unknown:
        raise UsageError(
            f"The {what} '{fields['class_path']}' has the key '{unknown[0]}' beside class_path: "
            "arguments belong under init_args."
        )
    arguments: dict[str, Any] = {}
    for key in ("init_args", "dict_kwargs"):
        given = _as_mapping(fields.get(key) or {})
        if given is None:
            raise UsageError(f"The {key} of the {what} '{fields['class_path']}' must be a mapping of names to values.")
        arguments.update(given)
    return _checked(what, fields["class_path"]), arguments


def _checked(what: str, name: object) -> str:
    if not isinstance(name, str) or not name.strip(".: "):
        raise UsageError(f"The name of the {what} must be text, not {name!r}.")
    return name.strip()


def _as_mapping(value: Any) -> dict[str, Any] | None:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "as_dict"):
        return dict(value.as_dict())
    return dict(vars(value)) if hasattr(value, "__dict__") else None
