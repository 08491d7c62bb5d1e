"""What goes wrong with plugins, and how an exception is told in one line."""

from __future__ import annotations

from ..errors import YoloError


class PluginError(YoloError):
    """A plugin, or the thing it registered, does not work; the message names the plugin and its distribution."""


class MissingRequirementError(YoloError):
    """A registered thing is fine, but modules that it needs are not installed; the message says what to install."""


def one_line(error: BaseException) -> str:
    """The type and message of ``error`` on one line; a :class:`YoloError` speaks for itself."""
    text = " ".join(str(error).split())
    if isinstance(error, YoloError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
