"""What is told when something goes wrong."""

from __future__ import annotations


class RefusalError(Exception):
    """Something that the user can do something about; its text is the answer."""


def one_line(error: BaseException) -> str:
    """The text of an error, not too long."""
    return " ".join(str(error).split())[:400] or "no reason was given"
