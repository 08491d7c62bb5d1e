"""Checks of numbers in a configuration; every message names the key."""

from __future__ import annotations

import math

from yolo.core.errors import UsageError

#: Highest values of the options of a random view, wherever they are used.
VIEW_LIMITS = {"degrees": 360.0, "translate": 1.0, "scale": 0.99, "shear": 89.0, "perspective": 0.1}


def at_least(key: str, value: object, low: int) -> None:
    """Accept a whole number from ``low`` on.

    Raises:
        UsageError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UsageError(f"{key} is {value!r}: it must be a whole number, {low} or more")


def one_of(key: str, value: object, names: tuple[str, ...]) -> None:
    """Accept one of a few names.

    Raises:
        UsageError: anything else.
    """
    if value not in names:
        raise UsageError(f"{key} is {value!r}: choose one of {', '.join(names)}")


def within(key: str, value: object, low: float, high: float) -> None:
    """Accept a number from ``low`` to ``high``, both included.

    Raises:
        UsageError: anything else, NaN for one.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high:  # type: ignore[operator]  # a number, as the line above found
        raise UsageError(f"{key} is {value!r}: it must be a number from {low:g} to {high:g}")


def positive(key: str, value: object, high: float) -> None:
    """Accept a number above 0, ``high`` at most.

    Raises:
        UsageError: anything else.
    """
    within(key, value, 0, high)
    if value == 0:
        raise UsageError(f"{key} is {value!r}: it must be above 0, {high:g} at most")
