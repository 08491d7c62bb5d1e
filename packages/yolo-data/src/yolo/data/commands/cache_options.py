"""What the commands for caches have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from yolo.data.encryption.keys import Key

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Takes the new key of ``yolo cache-rekey``.
NEW_KEY = "YOLO_NEW_ENCRYPTION_KEY"


def cache_dir(command: _Command) -> _Command:
    """Add ``--cache-dir``."""
    return click.option(
        "--cache-dir",
        "folder",
        required=True,
        type=click.Path(path_type=Path),
        help="Folder of the cache, such as cells/.yolo_cache_640x640_f1.0.",
    )(command)


def environment_key() -> Key | None:
    """Return the key of ``YOLO_ENCRYPTION_KEY``, None when that is not set.

    Raises:
        UsageError: it is set, and no key.
    """
    from yolo.data.encryption.keys import VARIABLE, find_key

    return find_key() if VARIABLE in os.environ else None


def show_progress(items: Iterable[Any], text: str, total: int) -> Iterable[Any]:
    """Show how far a long task is."""
    from yolo.cli.output import track

    return track(items, text, total=total)
