"""Tests that every plugin should pass."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

from ..plugins import (
    HOOKS,
    KINDS,
    MissingRequirementError,
    PluginManager,
    PluginSpec,
    Settings,
    get_manager,
    load_target,
)

_HEAVY = ("torch", "lightning", "tensorflow", "onnx", "cv2", "matplotlib")


def collect_records(plugin: object) -> dict[str, list[PluginSpec]]:
    """All records of one plugin, by kind.

    Raises:
        PluginError: the plugin has an unknown hook, or a hook raises or yields something else.
    """
    manager = PluginManager(Settings(strict=True), entry_points=())
    manager.register(plugin, name="plugin")
    record = manager.plugins[0]
    return {kind: list(record.adds.get(kind, ())) for kind in KINDS}


class PluginConformance:
    """Tests of a plugin as a whole; inherit it in a test file and set the fixture::

    import pytest
    from yolo.core.testing import PluginConformance

    class TestMyPlugin(PluginConformance):
        @pytest.fixture
        def plugin(self):
            return "my_plugin.plugin"
    """

    @pytest.fixture
    def plugin(self) -> str | ModuleType:
        """The module that the entry point names, or its name."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture 'plugin' that returns the plugin's module.")

    @pytest.fixture
    def module(self, plugin: str | ModuleType) -> ModuleType:
        """The imported plugin."""
        return importlib.import_module(plugin) if isinstance(plugin, str) else plugin

    @pytest.fixture
    def records(self, module: ModuleType) -> list[tuple[str, PluginSpec]]:
        """Everything that the plugin registers, each with its kind."""
        return [(kind, spec) for kind, specs in collect_records(module).items() for spec in specs]

    def test_hooks_are_known_and_yield_records(self, module: ModuleType) -> None:
        """Every hook exists, takes no argument, and yields well-formed records of its type."""
        collect_records(module)

    def test_functions_named_like_hooks_are_marked(self, module: ModuleType) -> None:
        """A function called ``yolo_...`` without ``@hookimpl`` would silently do nothing."""
        own = {name for name, _ in inspect.getmembers(module, inspect.isfunction) if name.startswith("yolo_")}
        marked = {name for name in own if hasattr(getattr(module, name), "yolo_impl")}
        assert own == marked, f"put @hookimpl on {sorted(own - marked)}"

    def test_adds_something(self, records: list[tuple[str, PluginSpec]]) -> None:
        """A plugin that registers nothing has probably forgotten ``@hookimpl`` or ``yield``."""
        assert records, f"no records; implement one of {sorted(hook for hook, _, _ in HOOKS.values())}"

    def test_names_are_unique(self, records: list[tuple[str, PluginSpec]]) -> None:
        """No name twice within a kind."""
        twice = [key for key, count in Counter((kind, spec.name) for kind, spec in records).items() if count > 1]
        assert not twice, f"registered more than once: {twice}"

    def test_names_are_free(self, records: list[tuple[str, PluginSpec]]) -> None:
        """No other installed plugin has one of the names."""
        manager = get_manager()
        for kind, spec in records:
            others = [
                plugin.origin
                for plugin in manager.plugins
                for other in plugin.adds.get(kind, ())
                if other.name == spec.name and other != spec
            ]
            assert not others, f"{kind}: '{spec.name}' is also registered by {' and '.join(others)}"

    def test_records_are_the_same_each_time(self, module: ModuleType) -> None:
        """Listing plugins twice gives the same answer."""
        assert collect_records(module) == collect_records(module)

    def test_targets_import(self, module: ModuleType) -> None:
        """Every target and every runtime can be imported, unless it needs something that is not installed."""
        manager = PluginManager(Settings(), entry_points=(), tell=lambda line: None)
        manager.register(module, name="plugin")
        skipped = []
        for kind in KINDS:
            for spec in manager.registry(kind):
                try:
                    target = manager.registry(kind).load(spec.name)
                except MissingRequirementError as error:
                    skipped.append(str(error))
                    continue
                _check_target(kind, spec, target)
        if skipped:
            pytest.skip("; ".join(skipped))

    def test_finding_it_imports_nothing_heavy(self, module: ModuleType) -> None:
        """``yolo --help`` asks every plugin, so the plugin's module must not import torch and the like."""
        code = f"import sys, {module.__name__}; print([name for name in {_HEAVY!r} if name in sys.modules])"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "[]", f"{module.__name__} imports {done.stdout.strip()}"


def _check_target(kind: str, spec: PluginSpec, target: Any) -> None:
    if kind == "commands" and not getattr(spec, "passthrough", False):
        import click

        assert isinstance(target, click.Command), f"{spec.target} must be a click.Command (or set passthrough=True)"
    else:
        assert callable(target), f"{spec.target} must be a class or a function"
    runtime = getattr(spec, "runtime", None)
    if runtime is not None:
        assert callable(load_target(runtime)), f"{runtime} must be a class or a function"
