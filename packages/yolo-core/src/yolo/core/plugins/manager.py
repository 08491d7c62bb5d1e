"""Loading and asking plugins, one at a time, so that a broken one harms nobody else."""

from __future__ import annotations

import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import EntryPoint

import pluggy

from ..errors import UsageError
from . import hookspecs
from .discovery import discover, installed
from .errors import PluginError, one_line
from .hookspecs import HOOKS, KINDS, PROJECT
from .records import PluginSpec
from .registry import Provider, Registry
from .settings import STRICT, Settings
from .status import PluginRecord
from .suggest import unknown_name

# A plugin that calls sys.exit() is as broken as one that raises. KeyboardInterrupt belongs to the user.
_FAILURES = (Exception, SystemExit)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


class PluginManager:
    """The plugins of one process.

    Plugins are loaded when the manager is made; each hook is called when its kind is first asked for. A plugin that
    fails at either moment becomes a :class:`PluginRecord` with the error and one line on stderr; all others go on.

    Args:
        settings: what to skip and whether to raise; read from the environment by default.
        entry_points: the plugins; those of the installed distributions by default.
        tell: gets one line for every broken plugin; writes to stderr by default.

    Raises:
        PluginError: in strict mode, at the first broken plugin.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        entry_points: Iterable[EntryPoint] | None = None,
        tell: Callable[[str], None] = _to_stderr,
    ) -> None:
        self.settings = Settings.from_environment() if settings is None else settings
        self._tell = tell
        self._hooks = pluggy.PluginManager(PROJECT)
        self._hooks.add_hookspecs(hookspecs)
        self._records: list[PluginRecord] = []
        self._loaded: dict[int, object] = {}
        self._registries: dict[str, Registry] = {}
        for found in discover(installed() if entry_points is None else entry_points, self.settings):
            self._add(found.record, found.point.load)

    @property
    def plugins(self) -> list[PluginRecord]:
        """All plugins, the project's own first, with what they add (every hook is called for that)."""
        for kind in KINDS:
            self.registry(kind)
        return [
            replace(record, adds={kind: record.adds[kind] for kind in KINDS if record.adds.get(kind)})
            for record in self._records
        ]

    def registry(self, kind: str) -> Registry:
        """The registered things of ``kind``, one of :data:`KINDS`; an unknown kind is a :class:`UsageError`."""
        if kind not in HOOKS:
            raise UsageError(unknown_name("kind of plugin", kind, KINDS))
        if kind not in self._registries:
            found = self._collect(kind)
            new = self._registries[kind] = Registry(kind, found, self)
            for name, message in new.conflicts().items():
                self._conflict({provider.plugin for provider in found[name]}, message)
        return self._registries[kind]

    def register(self, plugin: object, *, name: str, distribution: str = "(local)", version: str = "") -> PluginRecord:
        """Add a module or object of hook implementations that no distribution brought, say in a notebook or a test.

        Errors are handled as for an installed plugin, so look at the ``status`` of what is returned.
        """
        self._registries.clear()
        record = PluginRecord(name=name, distribution=distribution, version=version, module=name)
        return self._records[self._add(record, lambda: plugin)]

    def record(self, index: int) -> PluginRecord:
        """The plugin at ``index``."""
        return self._records[index]

    def broken(self) -> list[PluginRecord]:
        """The plugins found so far that do not work: broken, or left out because their name is taken."""
        return [
            record
            for index, record in enumerate(self._records)
            if record.status == "broken" or (record.status == "conflict" and index not in self._loaded)
        ]

    def failed(self, index: int, error: BaseException, *, where: str, tell: bool = True) -> None:
        """Note that the plugin at ``index`` failed (the first failure of a plugin counts); in strict mode raise."""
        record = self._records[index]
        message = f"{where}: {one_line(error)}" if where else one_line(error)
        if self.settings.strict:
            raise PluginError(f"The {record.origin} is broken and {STRICT} is set: {message}") from error
        if record.status == "broken":
            return
        trace = "".join(traceback.format_exception(error))
        self._records[index] = replace(record, status="broken", error=message, traceback=trace)
        if tell:
            self._tell(f"yolo: the {record.origin} is broken, see 'yolo --debug plugins': {message}")

    def _conflict(self, indexes: Iterable[int], message: str) -> None:
        if self.settings.strict:
            raise PluginError(message)
        for index in indexes:
            if self._records[index].status == "ok":
                self._records[index] = replace(self._records[index], status="conflict", error=message)
        self._tell(f"yolo: {message}")

    def _add(self, record: PluginRecord, load: Callable[[], object]) -> int:
        self._records.append(record)
        index = len(self._records) - 1
        if record.status == "conflict":
            self._conflict([], str(record.error))
        elif record.status == "ok":
            self._register(index, load)
        return index

    def _register(self, index: int, load: Callable[[], object]) -> None:
        key = str(index)
        try:
            plugin = load()
            self._hooks.register(plugin, name=key)
            self._check_hooks(plugin)
        except _FAILURES as error:
            if self._hooks.has_plugin(key):
                self._hooks.unregister(name=key)
            self.failed(index, error, where="")
        else:
            self._loaded[index] = plugin

    def _check_hooks(self, plugin: object) -> None:
        known = [hook for hook, _, _ in HOOKS.values()]
        for caller in self._hooks.get_hookcallers(plugin) or []:
            own = [impl for impl in caller.get_hookimpls() if impl.plugin is plugin]
            if not caller.has_spec() and not all(impl.optionalhook for impl in own):
                raise PluginError(unknown_name("hook", caller.name, known))

    def _collect(self, kind: str) -> dict[str, list[Provider]]:
        found: defaultdict[str, list[Provider]] = defaultdict(list)
        for index in self._loaded:
            specs: list[PluginSpec] = []
            try:
                self._ask(index, kind, specs)
            except _FAILURES as error:
                self.failed(index, error, where=f"in {HOOKS[kind][0]}")
            record = self._records[index]
            self._records[index] = replace(record, adds={**record.adds, kind: tuple(specs)})
            for spec in specs:
                found[spec.name].append(Provider(spec, index))
        return dict(found)

    def _ask(self, index: int, kind: str, specs: list[PluginSpec]) -> None:
        """Call the hook of one plugin; what it yields before it fails is kept in ``specs``."""
        hook, expected, _ = HOOKS[kind]
        others = [plugin for other, plugin in self._loaded.items() if other != index]
        for result in self._hooks.subset_hook_caller(hook, remove_plugins=others)():
            if isinstance(result, PluginSpec | str) or not isinstance(result, Iterable):
                raise TypeError(f"must yield or return several {expected.__name__}, not {type(result).__name__}")
            for spec in result:
                if not isinstance(spec, expected):
                    raise TypeError(f"must yield {expected.__name__}, not {type(spec).__name__}")
                specs.append(spec)


@lru_cache(maxsize=1)
def get_manager() -> PluginManager:
    """The manager of this process, made at the first call from the environment."""
    return PluginManager()


def reset_manager() -> None:
    """Forget the manager of this process, so that the next call looks at the environment and the path again."""
    get_manager.cache_clear()


def registry(kind: str) -> Registry:
    """The registered things of one kind, in this process.

    Args:
        kind: ``image_loaders``, ``dataset_formats``, ``augmentations``, ``lr_schedulers``, ``export_backends``,
            ``commands`` or ``configs``.

    Raises:
        UsageError: another kind.
    """
    return get_manager().registry(kind)
