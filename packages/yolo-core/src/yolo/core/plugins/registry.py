"""The things of one kind that all plugins registered, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from ..errors import UsageError
from .errors import MissingRequirementError, PluginError, one_line
from .hookspecs import HOOKS
from .records import ExportBackendSpec, PluginSpec
from .status import PluginRecord
from .suggest import unknown_name
from .targets import import_target


@dataclass(frozen=True)
class Provider:
    """A registered record, and the index of the plugin that registered it."""

    spec: PluginSpec
    plugin: int


class Host(Protocol):
    """What a registry needs of the plugin manager."""

    def record(self, index: int) -> PluginRecord:
        """The plugin at ``index``."""

    def failed(self, index: int, error: BaseException, *, where: str, tell: bool) -> None:
        """Note that the plugin at ``index`` is broken."""

    def broken(self) -> list[PluginRecord]:
        """The plugins found broken so far."""


class Registry:
    """Names of one kind (see :data:`yolo.core.plugins.KINDS`). Get one from :func:`yolo.core.plugins.registry`."""

    def __init__(self, kind: str, providers: Mapping[str, Sequence[Provider]], host: Host) -> None:
        self.kind = kind
        self._what = HOOKS[kind][2]
        self._host = host
        self._unique = {name: found[0] for name, found in sorted(providers.items()) if len(found) == 1}
        self._ambiguous = {name: tuple(found) for name, found in sorted(providers.items()) if len(found) > 1}

    def names(self) -> list[str]:
        """The usable names, sorted; names with a conflict are left out."""
        return list(self._unique)

    def specs(self) -> list[PluginSpec]:
        """The records of the usable names, sorted by name."""
        return [provider.spec for provider in self._unique.values()]

    def conflicts(self) -> dict[str, str]:
        """Names that more than one plugin registered, each with a sentence that names the distributions."""
        return {name: self._conflict(name, found) for name, found in self._ambiguous.items()}

    def __contains__(self, name: object) -> bool:
        return name in self._unique

    def __iter__(self) -> Iterator[PluginSpec]:
        return iter(self.specs())

    def __len__(self) -> int:
        return len(self._unique)

    def get(self, name: str) -> PluginSpec:
        """The record of ``name``.

        Raises:
            UsageError: nobody registered it; the message suggests near names, and names broken plugins, one of which
                may be the one that has it.
            PluginError: two plugins registered it; the message names both distributions.
        """
        return self._provider(name).spec

    def plugin(self, name: str) -> PluginRecord:
        """The plugin that registered ``name``. Raises like :meth:`get`."""
        return self._host.record(self._provider(name).plugin)

    def load(self, name: str) -> Any:
        """Import the target of ``name`` and return it.

        Raises:
            UsageError, PluginError: as in :meth:`get`.
            MissingRequirementError: a module that the record declares as required is not installed.
            PluginError: the import fails; the message names the plugin and its distribution, and the plugin is
                listed as broken from then on.
        """
        return self._load(name, None)

    def load_runtime(self, name: str) -> Any:
        """Import the runtime of an export backend, which loads the file that the backend wrote.

        Raises:
            UsageError: the backend has no runtime. Otherwise raises like :meth:`load`.
        """
        runtime = getattr(self.get(name), "runtime", None)
        if runtime is None:
            raise UsageError(f"The {self._what} '{name}' has no runtime, so its files cannot be loaded again.")
        return self._load(name, runtime)

    def _load(self, name: str, target: str | None) -> Any:
        provider = self._provider(name)
        self._check_requirements(provider)
        try:
            return import_target(target or provider.spec.target)
        except (Exception, SystemExit) as error:
            where = f"{self._what} '{name}'"
            self._host.failed(provider.plugin, error, where=where, tell=False)
            origin = self._host.record(provider.plugin).origin
            raise PluginError(f"The {where} of {origin} does not load: {one_line(error)}") from error

    def _provider(self, name: str) -> Provider:
        if name in self._ambiguous:
            raise PluginError(self._conflict(name, self._ambiguous[name]))
        if name not in self._unique:
            broken = "; ".join(f"{plugin.name} of {plugin.dist} ({plugin.error})" for plugin in self._host.broken())
            hint = f" It may belong to a broken plugin: {broken}." if broken else ""
            raise UsageError(unknown_name(self._what, name, self._unique) + hint)
        return self._unique[name]

    def _conflict(self, name: str, found: Sequence[Provider]) -> str:
        plugins = [self._host.record(provider.plugin) for provider in found]
        origins = " and ".join(plugin.origin for plugin in plugins)
        if len({provider.plugin for provider in found}) == 1:
            return f"The {self._what} '{name}' is registered {len(found)} times by the {plugins[0].origin}."
        return (
            f"The {self._what} '{name}' is registered by {origins}: uninstall one, "
            f"or leave it out with YOLO_DISABLE_PLUGINS={plugins[-1].name}."
        )

    def _check_requirements(self, provider: Provider) -> None:
        spec = provider.spec
        if not isinstance(spec, ExportBackendSpec):
            return
        missing = [module for module in spec.requires if not _installed(module)]
        if missing:
            wanted = self._host.record(provider.plugin).distribution
            install = f"pip install '{wanted}[{spec.extra}]'" if spec.extra else f"pip install {' '.join(missing)}"
            raise MissingRequirementError(
                f"The {self._what} '{spec.name}' needs {', '.join(missing)}, not installed here: {install}"
            )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
