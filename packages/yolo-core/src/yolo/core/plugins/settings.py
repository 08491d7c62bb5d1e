"""Which plugins to load, and how strict to be about broken ones."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

DISABLE = "YOLO_DISABLE_PLUGINS"
NO_PLUGINS = "YOLO_NO_PLUGINS"
STRICT = "YOLO_PLUGINS_STRICT"

_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How plugins are loaded.

    Attributes:
        disabled: plugins not to load, each by the name of the plugin or of its distribution.
        third_party: ``False`` skips every plugin whose module is outside the namespace ``yolo``, which is reserved
            for the project's own distributions; those keep working.
        strict: raise at the first broken plugin instead of noting it and going on.
    """

    disabled: frozenset[str] = frozenset()
    third_party: bool = True
    strict: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read ``YOLO_DISABLE_PLUGINS=a,b``, ``YOLO_NO_PLUGINS=1`` and ``YOLO_PLUGINS_STRICT=1``."""
        values = os.environ if environ is None else environ
        return cls(
            disabled=frozenset(name.strip() for name in values.get(DISABLE, "").split(",") if name.strip()),
            third_party=not _is_on(values.get(NO_PLUGINS, "")),
            strict=_is_on(values.get(STRICT, "")),
        )

    def skips(self, *, name: str, distribution: str, first_party: bool) -> bool:
        """Whether a plugin is not to be loaded. Case, ``-``, ``_`` and ``.`` in names do not matter (PEP 503)."""
        if not self.third_party and not first_party:
            return True
        disabled = {normalise(entry) for entry in self.disabled}
        return normalise(name) in disabled or normalise(distribution) in disabled


def normalise(name: str) -> str:
    """A name in the form in which two spellings of it compare equal (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_on(value: str) -> bool:
    return value.strip().lower() not in _FALSE
