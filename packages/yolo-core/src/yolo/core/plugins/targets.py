"""Importing what a string names."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import YoloError
from .errors import one_line
from .suggest import did_you_mean


def import_target(target: str) -> Any:
    """Import ``"package.module:attribute"``; whatever goes wrong is raised as it is."""
    module_name, _, path = target.partition(":")
    value: Any = importlib.import_module(module_name)
    for attribute in path.split("."):
        try:
            value = getattr(value, attribute)
        except AttributeError:
            hint = did_you_mean(attribute, [name for name in dir(value) if not name.startswith("_")])
            raise AttributeError(f"{module_name} has no '{path}'. {hint}".strip()) from None
    return value


def load_target(target: str) -> Any:
    """Import ``"package.module:attribute"`` and return the attribute.

    Raises:
        YoloError: it is not of that form, or the import fails; the cause is chained.
    """
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise YoloError(f"'{target}' is not of the form 'package.module:attribute'.")
    try:
        return import_target(target)
    except Exception as error:  # foreign code may raise anything while it is imported
        raise YoloError(f"'{target}' cannot be imported: {one_line(error)}") from error


def load_class_path(class_path: str) -> Any:
    """Import what a user's config names: ``"package.module.Class"`` or ``"package.module:Class"``.

    Raises:
        YoloError: the import fails; the cause is chained.
    """
    if ":" in class_path:
        return load_target(class_path)
    module_name, _, attribute = class_path.rpartition(".")
    return load_target(f"{module_name}:{attribute}")
