"""Errors that a user can cause, and nothing else."""

from __future__ import annotations


class YoloError(Exception):
    """A mistake in a file, an option or the environment, told in one line that says what to do.

    The ``yolo`` command prints the message without a traceback and ends with :attr:`exit_code`.
    """

    exit_code = 1


class UsageError(YoloError):
    """A wrong option, name or configuration key."""

    exit_code = 2
