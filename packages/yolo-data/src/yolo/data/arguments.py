"""Arguments from a configuration, compared with the annotations of the constructor that they are for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from yolo.core.errors import UsageError
from yolo.core.plugins import did_you_mean


def check_arguments(target: type, arguments: Mapping[str, Any], where: str) -> None:
    """Refuse arguments that a class does not know, or that are not of the annotated type.

    Only what a configuration can hold is looked at: numbers, text, true and false, null, and lists of them. An argument
    without annotation, or annotated with anything else, is left to the class.

    Args:
        target: the class to be made.
        arguments: by name.
        where: the place in the configuration, which begins every message: ``data.augmentations[0]``.

    Raises:
        UsageError: naming the argument, the value, and what is expected.
    """
    try:
        parameters = inspect.signature(target).parameters
        hints = get_type_hints(target.__init__)  # type: ignore[misc]  # that of this very class is wanted
    except (TypeError, ValueError, NameError, AttributeError):  # no Python signature, or a name that does not resolve
        return
    named = [name for name, item in parameters.items() if item.kind in (item.KEYWORD_ONLY, item.POSITIONAL_OR_KEYWORD)]
    takes_all = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    for name, value in arguments.items():
        if name not in named:
            if takes_all:
                continue
            known = f"it has {', '.join(named)}" if named else "it has none"
            text = f"{where}.{name} is no option of {target.__name__}: {known}. {did_you_mean(name, named)}"
            raise UsageError(text.rstrip(" ."))
        if name in hints and not _fits(value, hints[name]):
            raise UsageError(f"{where}.{name} is {value!r}: {target.__name__} expects {wanted(hints[name])}")


def _fits(value: Any, hint: Any) -> bool:
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if kind in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and _all_fit(value, kind, parts)
    return kind not in _PLAIN or _PLAIN[kind][1](value)


def _all_fit(values: Sequence[Any], kind: Any, parts: tuple[Any, ...]) -> bool:
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        return len(values) == len(parts) and all(map(_fits, values, parts))
    return not parts or all(_fits(value, parts[0]) for value in values)


def wanted(hint: Any) -> str:
    """Say what an annotation allows, as in ``"one of 'ram', 'disk'"`` or ``"a whole number or null"``."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(wanted, parts)))
    if kind is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if kind in (list, tuple, Sequence, Iterable):
        items = ", ".join(wanted(part) for part in parts if part is not Ellipsis)
        return f"a list of {items}" if items else "a list"
    if kind in _PLAIN:
        return _PLAIN[kind][0]
    return f"the path of a {kind.__name__} class" if inspect.isclass(kind) else str(kind)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", _is_number),
    str: ("text", lambda value: isinstance(value, str)),
    NoneType: ("null", lambda value: value is None),
    dict: ("names and values", lambda value: isinstance(value, Mapping)),
}
