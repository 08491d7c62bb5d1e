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
from yolo.data.option_errors import plain_message

_PREFIX = "--data."
_RETIRED = {"cache_compress": "use data.cache_format: raw (without loss, packed by LZ4) or jpeg"}


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


def data_settings(
    configs: Sequence[str], options: Sequence[str] = (), *, base: Mapping[str, Any] | None = None
) -> DataConfig:
    """Read the settings of the data just as ``yolo fit`` does.

    What model and data have in common may stand in either section: ``model.image_size``, ``model.num_classes``, and
    ``seed_everything`` serve where the data has none of its own.

    Args:
        configs: paths or packaged names; later ones win key by key.
        options: what stands on the command line, as ``--data.key=value`` or ``--data.key``, ``value``; they win over
            every file.
        base: settings of the data, such as a checkpoint's own, over which files and options win key by key.

    Raises:
        UsageError: a file cannot be used, or a key or value is wrong.
    """
    parser = ArgumentParser(prog="yolo", exit_on_error=False)
    parser.add_class_arguments(DataConfig, "data")
    parsed: Namespace | None = None
    shared: dict[str, Any] = {}
    sources: list[tuple[str, dict[str, Any]]] = [("the checkpoint", {"data": base})] if base else []
    sources += [(value, read_config(value)) for value in configs]
    for name, content in sources:
        section = dict(content.get("data") or {})
        _check_keys(section, f"{name}: ")
        shared |= _shared(content)
        try:
            parsed = parser.parse_object({"data": section}, namespace=parsed)
        except ArgumentError as error:
            raise UsageError(f"{name}: {plain_message(parser, str(error))}") from None
    _check_keys(option_keys(options), "--")
    try:
        parsed = parser.parse_args(list(options), namespace=parsed)
    except ArgumentError as error:
        raise UsageError(plain_message(parser, str(error))) from None
    given = [*(content for _, content in sources), {"data": dict.fromkeys(option_keys(options), True)}]
    shared["image_size"] = settle_image_size(shared.get("image_size"), parsed["data"].image_size, given)
    shared = {key: value for key, value in shared.items() if parsed["data"][key] is None or key == "image_size"}
    try:
        parsed = parser.parse_object({"data": shared}, namespace=parsed)
    except ArgumentError as error:
        raise UsageError(f"the model section or seed_everything: {plain_message(parser, str(error))}") from None
    config: DataConfig = parser.instantiate(parsed)["data"]
    return config


def settle_image_size(model: Any, data: Any, sources: Sequence[Mapping[str, Any]]) -> Any:
    """Return the image size, which may stand under ``model`` and under ``data``.

    Args:
        model: value of ``model.image_size`` after all sources; None: not set.
        data: value of ``data.image_size``, likewise.
        sources: the sections of each file, then those of the command line, where any value but None means "given here".

    Returns:
        The one that is set; of two different ones that of the last source that sets one of them.

    Raises:
        UsageError: that source sets both, and differently.
    """
    if model is None or data is None or _pair(model) == _pair(data):
        return model if data is None else data
    for source in reversed(sources):
        given = [name for name in ("model", "data") if (source.get(name) or {}).get("image_size") is not None]
        if len(given) == 1:
            return model if given == ["model"] else data
        if given:
            break
    raise UsageError(f"model.image_size is {model}, but data.image_size is {data}: give it once")


def option_keys(options: Sequence[str]) -> list[str]:
    """Return the first-level names of the ``--data.<name>`` options of a command line, in order."""
    keys = [arg.removeprefix(_PREFIX).partition("=")[0] for arg in options if arg.startswith(_PREFIX)]
    return [key.rstrip("+").partition(".")[0] for key in keys]


def check_retired(keys: Iterable[object], where: str) -> None:
    """Raise UsageError for a key of the old program that was given up, saying what serves instead.

    Args:
        keys: of the ``data:`` section.
        where: they stand, as ``run.yaml: `` or ``--``.
    """
    for key in keys:
        if key in _RETIRED:
            raise UsageError(f"{where}data.{key} is no setting any more: {_RETIRED[str(key)]}")


def refuse_data_file(args: Sequence[str]) -> None:
    """Raise UsageError for ``--data data.yaml``, a habit from other programs: the option takes settings of ours.

    Args:
        args: what stands on the command line, with the option's value in the same word or the next.
    """
    for number, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        path = Path(value if equals else next(iter(args[number + 1 :]), ""))
        if name != "--data" or path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
            continue
        if {"train", "val", "test"} & read_config(str(path)).keys():
            raise UsageError(
                f"--data {path}: this file describes a data set, and the option takes settings; "
                f"give --data.root={path} --data.format=yolo"
            )


def _check_keys(keys: Iterable[object], where: str) -> None:
    keys = list(keys)
    check_retired(keys, where)
    known = [field.name for field in fields(DataConfig)]
    for key in keys:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise UsageError(f"{where}data.{key} is not a setting of the data. {hint}".strip())


def _shared(content: Mapping[str, Any]) -> dict[str, Any]:
    model, seed = content.get("model") or {}, content.get("seed_everything")
    found = {key: model[key] for key in ("image_size", "num_classes") if model.get(key) is not None}
    return found if seed is None or isinstance(seed, bool) else found | {"seed": seed}


def _pair(size: Any) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, list | tuple) else (size, size)
