"""What the libraries warn about, as one plain line each, without source code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .output import note


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Show warnings as notes on stderr."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        note(f"Warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.filterwarnings("always", module="yolo")
        yield
