"""Arguments of a layer checked against the signature of its block, before anything is built."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from yolo.core.models.layers import LayerSpec
from yolo.core.nn.registry import SUPPLIED, BlockEntry
from yolo.core.plugins.suggest import unknown_name

#: Largest whole number in a model file; far beyond any network, and no danger to build.
MOST = 1 << 16

# Of a class without __init__ of its own: nn.Module's.
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def bind_arguments(layer: LayerSpec, entry: BlockEntry) -> dict[str, Any]:
    """The arguments of a layer with the defaults filled in; lists become tuples where the block takes tuples.

    Raises:
        SpecError: an unknown, missing or wrongly typed argument.
    """
    init = entry.factory.__init__  # type: ignore[misc]  # read, not called
    hints = typing.get_type_hints(init, include_extras=True)
    known = {
        name: parameter
        for name, parameter in inspect.signature(init).parameters.items()
        if name not in SUPPLIED | {"self"} and parameter.kind not in _VARIADIC
    }
    for name in layer.args:
        if name in SUPPLIED:
            raise layer.error(
                f"argument {name!r} follows from the rest of the file and the number of classes; leave it away"
            )
        if name not in known:
            raise layer.error(unknown_name("argument", str(name), known))
    bound: dict[str, Any] = {}
    for name, parameter in known.items():
        if name in layer.args:
            try:
                bound[name] = check_value(layer.args[name], hints[name])
            except TypeError as error:
                raise layer.error(f"argument {name!r}: {error}") from None
        elif parameter.default is inspect.Parameter.empty:
            raise layer.error(f"argument {name!r} is missing")
        else:
            bound[name] = parameter.default
    return bound


def check_value(value: Any, hint: Any, *, least: int = 1) -> Any:
    """The value, with lists as tuples, if it has the type that the hint says.

    Whole numbers are counts: at least 1, unless ``Annotated`` with another bound, and at most :data:`MOST`.

    Raises:
        TypeError: it has not; the message says what is expected.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return check_value(value, parts[0], least=int(parts[1]))
    if origin in (Union, types.UnionType):
        return _first_match(value, parts, hint, least)
    if origin is Literal:
        if value not in parts or isinstance(value, bool):
            raise TypeError(f"must be one of {', '.join(map(str, parts))}, not {value!r}")
        return value
    if origin is tuple:
        return _tuple(value, parts)
    if typing.is_typeddict(hint):
        return _mapping(value, hint)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"must be {_NAMES.get(hint, hint.__name__)}, not {value!r}")
    if hint is int and value < least:
        raise TypeError(f"must be at least {least}, not {value}")
    if hint is int and value > MOST:
        raise TypeError(f"must be at most {MOST}")
    if hint is float and not 0 < value < float("inf"):
        raise TypeError(f"must be a positive number, not {value}")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}


def _first_match(value: Any, choices: tuple[Any, ...], hint: Any, least: int) -> Any:
    problems = []
    for choice in choices:
        try:
            return check_value(value, choice, least=least)
        except TypeError as error:
            if choice is not type(None):
                problems.append(str(error))
    # The nearest explanation: the one about the value's own shape (a list, or not).
    listed = [text for text in problems if text.startswith("must be a list") != isinstance(value, (list, tuple))]
    raise TypeError((listed or problems)[0])


def _tuple(value: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"must be a list, not {value!r}")
    if len(parts) == 2 and parts[1] is Ellipsis:
        if not value:
            raise TypeError("must not be an empty list")
        return tuple(check_value(entry, parts[0]) for entry in value)
    if len(value) != len(parts):
        raise TypeError(f"needs {len(parts)} entries, not {value!r}")
    return tuple(check_value(entry, part) for entry, part in zip(value, parts, strict=True))


def _mapping(value: Any, hint: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"must be a mapping, not {value!r}")
    hints = typing.get_type_hints(hint, include_extras=True)
    checked = {}
    for name, entry in value.items():
        if name not in hints:
            raise TypeError(unknown_name("key", str(name), hints))
        try:
            checked[name] = check_value(entry, hints[name])
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
    return checked
