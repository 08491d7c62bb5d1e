"""What is known about one installed plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .records import PluginSpec

Status = Literal["ok", "broken", "conflict", "disabled"]


@dataclass(frozen=True, kw_only=True)
class PluginRecord:
    """One entry point of the group ``yolo.plugins``, working or not.

    Attributes:
        name: name of the plugin (of its entry point).
        distribution: the installed distribution that brought it.
        version: version of that distribution.
        module: value of the entry point, ``"package.module"`` or ``"package.module:object"``.
        status: ``ok``; ``broken`` (import, hook call or target failed); ``conflict`` (a name that another plugin uses
            too); ``disabled`` (skipped on request).
        error: the first thing that went wrong, in one line.
        traceback: the traceback that belongs to ``error``, when there is one.
        adds: per kind, the records that it registered; kinds without any are left out.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: Status = "ok"
    error: str | None = None
    traceback: str | None = None
    adds: Mapping[str, tuple[PluginSpec, ...]] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """The plugin in the words of a message: ``plugin 'rain' of yolo-rain 0.1.0``."""
        return f"plugin '{self.name}' of {self.dist}"

    @property
    def dist(self) -> str:
        """Distribution and version: ``yolo-rain 0.1.0``."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def first_party(self) -> bool:
        """Whether the module is in the namespace ``yolo``, which is reserved for the project's own distributions."""
        return is_first_party(self.module)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "module": self.module,
            "first_party": self.first_party,
            "status": self.status,
            "error": self.error,
            "traceback": self.traceback,
            "adds": {kind: [asdict(spec) for spec in specs] for kind, specs in self.adds.items()},
        }


def is_first_party(module: str) -> bool:
    """Whether the module of an entry point is in the namespace ``yolo``."""
    return module.partition(":")[0].partition(".")[0].strip() == "yolo"
