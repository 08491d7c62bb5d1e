"""From configuration files and ``--data.*`` options to a :class:`~yolo.data.config.DataConfig`, for every command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader

from yolo.core.errors import UsageError
from yolo.core.plugins import did_you_mean, registry
from yolo.data.config import DataConfig

_PREFIX = "--data."


def config_path(value: str) -> str:
    """Return the path of a configuration given by path or by packaged name.

    Raises:
        UsageError: neither a file nor a packaged name.
    """
    if Path(value).is_file():
        return value
    packaged = registry("configs")
    if value in packaged:
        return str(packaged.load(value)())
    known = ", ".join(packaged.names()) or "none, as yolo-train is not installed"
    raise UsageError(f"--config {value}: there is no such file, and the packaged ones are {known}")


def read_config(value: str) -> dict[str, Any]:
    """Read a configuration file.

    Args:
        value: a path or a packaged name.

    Returns:
        Its sections by name.

    Raises:
        UsageError: it is missing, cannot be read, or is not YAML with sections.
    """
    path = config_path(value)
    try:
        text = Path(path).read_text("utf-8-sig")
        content = get_loader("yaml")(text)
        if isinstance(content, str):  # which is what it makes of sections that are all empty
            content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as text: {error}") from None
    except Exception as error:  # jsonargparse names no public class for what its loaders raise
        mark = getattr(error, "problem_mark", None)  # the message itself would show a piece of the file
        where = "" if mark is None else f" (line {mark.line + 1})"
        raise UsageError(f"{path}: not a YAML file{where}") from None
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: expected sections such as `data:` and `model:`")
    for section in ("data", "model"):
        if not isinstance(content.get(section) or {}, Mapping):
            raise UsageError(f"{path}: `{section}:` must hold keys and values")
    return dict(content)


def data_settings(configs: Sequence[str], options: Sequence[str] = ()) -> DataConfig:
    """Read the settings of the data just as ``yolo fit`` does.

    What model and data have in common may stand in either section: ``model.image_size``, ``model.num_classes``, and
    ``seed_everything`` serve where the data has none of its own.

    Args:
        configs: paths or packaged names; later ones win key by key.
        options: what stands on the command line, as ``--data.key=value`` or ``--data.key``, ``value``; they win over
            every file.

    Raises:
        UsageError: a file cannot be used, or a key or value is wrong.
    """
    parser = ArgumentParser(prog="yolo", exit_on_error=False)
    parser.add_class_arguments(DataConfig, "data")
    parsed: Namespace | None = None
    shared: dict[str, Any] = {}
    for value in configs:
        content = read_config(value)
        section = dict(content.get("data") or {})
        _check_keys(section, f"{value}: ")
        shared |= _shared(content)
        try:
            parsed = parser.parse_object({"data": section}, namespace=parsed)
        except ArgumentError as error:
            raise UsageError(f"{value}: {_plain(error)}") from None
    _check_keys(option_keys(options), "--")
    try:
        parsed = parser.parse_args(list(options), namespace=parsed)
    except ArgumentError as error:
        raise UsageError(_plain(error)) from None
    _fill(parsed["data"], shared)
    config: DataConfig = parser.instantiate(parsed)["data"]
    return config


def option_keys(options: Sequence[str]) -> list[str]:
    """Return the first-level names of the ``--data.<name>`` options of a command line, in order."""
    keys = [arg.removeprefix(_PREFIX).partition("=")[0] for arg in options if arg.startswith(_PREFIX)]
    return [key.rstrip("+").partition(".")[0] for key in keys]


def _check_keys(keys: Iterable[object], where: str) -> None:
    known = [field.name for field in fields(DataConfig)]
    for key in keys:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise UsageError(f"{where}data.{key} is not a setting of the data. {hint}".strip())


def _shared(content: Mapping[str, Any]) -> dict[str, Any]:
    model, seed = content.get("model") or {}, content.get("seed_everything")
    found = {key: model[key] for key in ("image_size", "num_classes") if model.get(key) is not None}
    return found if seed is None or isinstance(seed, bool) else found | {"seed": seed}


def _fill(data: Namespace, shared: Mapping[str, Any]) -> None:
    for key, value in shared.items():
        own = data[key]
        if own is None:
            data[key] = tuple(value) if isinstance(value, list) else value
        elif key == "image_size" and _pair(own) != _pair(value):
            raise UsageError(f"model.image_size is {value}, but data.image_size is {own}: give it once")


def _pair(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _plain(error: ArgumentError) -> str:
    text = " ".join(str(error).split())
    if "encryption_key" in text:  # the message shows what stands there
        return "data.encryption_key must be 64 hexadecimal characters, in quotes"
    return text
