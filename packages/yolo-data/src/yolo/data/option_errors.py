"""What is wrong with an option or a key of a configuration, in one line: where it stands, and what it may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from yolo.core.errors import UsageError
from yolo.core.plugins import did_you_mean
from yolo.data.arguments import wanted
from yolo.data.encryption.keys import mask_keys

_LONGEST_VALUE = 80


def tell_plainly(parser: ArgumentParser, args: Sequence[str] = ()) -> None:
    """Let a parser raise :class:`~yolo.core.errors.UsageError` with one line, instead of printing how it is used.

    Args:
        parser: changed in place.
        args: the command line, with each file as ``--config=path``; says whether a value stands there or in a file.
    """

    def error(message: str, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(plain_message(parser, message, args))

    parser.error = error  # type: ignore[method-assign]  # the way jsonargparse itself lets errors be handled


def plain_message(parser: ArgumentParser, message: str, args: Sequence[str] = ()) -> str:
    """Turn a message of jsonargparse into one line; one of an unknown form is only put on one line.

    Args:
        parser: that it is from.
        message: with line breaks.
        args: as in :func:`tell_plainly`.
    """
    message = mask_keys(message)
    text = " ".join(message.split())
    if found := re.match(r"unrecognized arguments: (\S+)", text):
        return _unknown(parser, found[1].partition("=")[0], "option", parser.prog)
    if found := re.match(r"argument (\S+): expected one argument", text):
        return f"{found[1]} needs a value"
    if found := re.match(r"the following arguments are required: (.+)", text):
        return f"--{found[1].replace(', ', ', --')} is needed. See {parser.prog} --help."
    if found := re.match(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text):
        return _unknown(parser, f"{_source(f'{found[1]}.{found[2]}', args)}", "setting", parser.prog)
    if found := re.match(r"Option '([\w.]+)' is not accepted", text):
        return _unknown(parser, _source(found[1], args), "setting", parser.prog)
    if found := re.match(r'Parser key "([\w.]+)":', text):
        return _wrong_value(parser, found[1], message, args)
    return text


def refused_class(message: str) -> str | None:
    """Say which class of a configuration cannot be used, and why; with a package that is missing, what to install.

    Args:
        message: of jsonargparse, on parsing or on making the object.

    Returns:
        None where the message is about something else.
    """
    found = re.findall(r"Problem with given class_path '([\w.]+)':\s*(\S[^\n]*)", mask_keys(message))
    texts = []
    for path, problem in dict.fromkeys(found):
        missing = re.search(r"Requirement '([^']+)' not met|No module named '([\w]+)", problem)
        package = (missing[1] or missing[2]) if missing else ""
        known = missing is not None and (missing[1] is not None or missing[2] != path.partition(".")[0])
        texts.append(
            f"{path} needs a package that is not installed: pip install '{package}'" if known else f"{path}: {problem}"
        )
    if not texts and (given := re.search(r"Given value: Namespace\(class_path='([\w.]+)'", message)):
        reasons = re.findall(r"^ *- (.+)$", mask_keys(message), re.MULTILINE)
        texts = [f"{given[1]}: {line}" for line in reasons if not line.startswith("Expected a")][:1]
    return "; ".join(texts) or None


def _wrong_value(parser: ArgumentParser, key: str, message: str, args: Sequence[str]) -> str:
    where = _source(key, args) if "." in key else _option(parser, key)
    if "encryption_key" in message:  # what stands there is not shown
        return f"{where} has to be 64 hexadecimal characters, in quotes"
    refused = refused_class(message)
    if refused:
        return f"{where}: {refused}"
    if found := re.search(r"Unable to load config [\"'](.+?)[\"']", message):
        return f"{where}: {found[1]} cannot be read"
    value = re.findall(r"(?:Got|Given) value: (.*)", message)
    hint = next(
        (action._typehint for action in parser._actions if action.dest == key and hasattr(action, "_typehint")), None
    )
    known = wanted(hint) if hint is not None else ""
    if not value or not known:
        return f"{where}: {' '.join(message.split())}"
    shown = value[-1].strip()
    shown = shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}..."
    return f"{where} is {shown}: it has to be {known}"


def _unknown(parser: ArgumentParser, name: str, noun: str, prog: str) -> str:
    known = [text for action in parser._actions for text in action.option_strings if text.startswith("--")]
    dashes, bare = name.startswith("--"), name.rpartition(" ")[2]
    names = known if dashes else [text.removeprefix("--") for text in known]
    hint = did_you_mean(bare, names)
    return f"{name} is no {noun}. {hint or f'See {prog} --help.'}"


def _option(parser: ArgumentParser, key: str) -> str:
    """Name a key of the first level as it is typed: ``--num-images``."""
    names = next((action.option_strings for action in parser._actions if action.dest == key), [])
    return next((name for name in names if name.startswith("--")), f"--{key}")


def _source(key: str, args: Sequence[str]) -> str:
    """Name a key with the place where its value stands: ``--data.root``, or ``run.yaml: data.root``."""
    if "." not in key or any(arg.partition("=")[0] == f"--{key}" for arg in args):
        return f"--{key}"
    from yolo.data.config_files import read_config

    for arg in reversed(args):
        if arg.startswith("--config="):
            name = arg.removeprefix("--config=")
            if _holds(read_config(name), key.split(".")):
                return f"{name}: {key}"
    return key


def _holds(content: Any, keys: Iterable[str]) -> bool:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True
