"""Suggestions for a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """A sentence like ``"Did you mean 'mosaic'?"`` for the nearest of ``known``, or ``""`` when nothing is near.

    Case and the difference between ``-`` and ``_`` do not count.
    """
    plain = {_plain(candidate): candidate for candidate in known}
    near = difflib.get_close_matches(_plain(name), plain, n=limit, cutoff=0.6)
    if not near:
        return ""
    return f"Did you mean {' or '.join(repr(plain[match]) for match in near)}?"


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """One line for a name that nobody knows: the name, the nearest names, and all names when nothing is near."""
    names = sorted(known)
    suggestion = did_you_mean(name, names)
    if not suggestion:
        suggestion = f"Known: {', '.join(names)}." if names else "None is registered."
    return f"There is no {what} '{name}'. {suggestion}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
