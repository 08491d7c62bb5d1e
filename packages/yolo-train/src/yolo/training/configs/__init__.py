"""Configurations that come with the package, and how ``--config`` finds them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from yolo.core.errors import UsageError

NAMES = ("default", "debug", "quickstart")


def config_path(value: str) -> str:
    """Return the path of a configuration given by path or by packaged name.

    Raises:
        UsageError: neither a file nor a packaged name.
    """
    if Path(value).is_file():
        return value
    if value in NAMES:
        return str(files(__package__) / f"{value}.yaml")
    raise UsageError(f"--config {value}: there is no such file, and the packaged ones are {', '.join(NAMES)}")


def expand_config_names(args: Sequence[str]) -> list[str]:
    """Replace packaged names behind ``--config`` and ``-c`` in a command line by their paths."""
    expanded: list[str] = []
    for position, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag in ("--config", "-c") and equals:
            expanded.append(f"{flag}={config_path(value)}")
        elif position and args[position - 1] in ("--config", "-c"):
            expanded.append(config_path(arg))
        else:
            expanded.append(arg)
    return expanded
