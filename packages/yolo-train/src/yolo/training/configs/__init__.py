"""Configurations that come with the package, and how ``--config`` finds them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from yolo.data.config_files import config_path

NAMES = ("default", "debug", "quickstart")


def packaged(name: str) -> Path:
    """Return the path of one of :data:`NAMES`."""
    return Path(__file__).with_name(f"{name}.yaml")


default, debug, quickstart = (partial(packaged, name) for name in NAMES)


def expand_config_names(args: Sequence[str]) -> list[str]:
    """Replace packaged names behind ``--config`` and ``-c`` by their paths, and put the files in front.

    The parser takes what comes later; so options win over files, wherever they stand on the command line.
    """
    files: list[str] = []
    options: list[str] = []
    remaining = iter(args)
    for arg in remaining:
        flag, equals, value = arg.partition("=")
        if flag not in ("--config", "-c"):
            options.append(arg)
            continue
        given = value if equals else next(remaining, None)
        if given is None:
            options.append(arg)  # the parser says that a value is missing
        else:
            files.append(f"--config={config_path(given)}")
    return [*files, *options]
