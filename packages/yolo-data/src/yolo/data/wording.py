"""Words for messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "error"), counted(0, "error"), counted(2, "box", "boxes")
    ('1 error', '0 errors', '2 boxes')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
