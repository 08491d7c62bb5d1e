"""The conformance kit passes good plugins, and catches what it is there to catch."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from yolo.core.errors import YoloError
from yolo.core.plugins import PluginSpec, reset_manager
from yolo.core.testing import PluginConformance, collect_records

GOOD = """
from yolo.core.plugins import AugmentationSpec, CommandSpec, ExportBackendSpec, hookimpl

@hookimpl
def yolo_augmentations():
    yield AugmentationSpec("fake-hail", target="fractions:Fraction", summary="Hail.")

@hookimpl
def yolo_commands():
    yield CommandSpec("fake-preview", target="json:dumps", summary="Preview.", passthrough=True)

@hookimpl
def yolo_export_backends():
    yield ExportBackendSpec("fake-x", target="json:dumps", summary="X.", suffix=".x", runtime="json:loads")
"""

CHECKS = sorted(name for name in vars(PluginConformance) if name.startswith("test_"))


class TestYoloCli(PluginConformance):
    """The project's own plugins go through the same kit."""

    @pytest.fixture
    def plugin(self) -> str:
        return "yolo.cli.plugin"


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], dict[str, str]]]:
    """Run every check of the kit on a plugin given as source; returns what failed or was skipped, and why."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("YOLO_NO_PLUGINS", "1")
    monkeypatch.setenv("YOLO_DISABLE_PLUGINS", "data,train,export")
    reset_manager()

    def run(source: str, checks: Sequence[str] = CHECKS) -> dict[str, str]:
        (tmp_path / "checked_plugin.py").write_text(source)
        module = importlib.import_module("checked_plugin")
        complaints = {}
        for check in checks:
            method = getattr(PluginConformance(), check)
            try:
                method(module if "module" in inspect.signature(method).parameters else listed(module))
            except (AssertionError, YoloError, pytest.skip.Exception) as error:
                complaints[check] = str(error)
        return complaints

    def listed(module: ModuleType) -> list[tuple[str, PluginSpec]]:
        return [(kind, spec) for kind, specs in collect_records(module).items() for spec in specs]

    yield run
    reset_manager()
    sys.modules.pop("checked_plugin", None)


def test_a_good_plugin_passes(kit: Callable[[str], dict[str, str]]) -> None:
    assert len(CHECKS) == 8
    assert kit(GOOD) == {}


@pytest.mark.parametrize(
    ("old", "new", "caught_by"),
    [
        ("@hookimpl\ndef yolo_commands", "def yolo_commands", "functions_named_like_hooks_are_marked"),
        ("def yolo_commands", "def yolo_command", "hooks_are_known_and_yield_records"),
        ('"fractions:Fraction"', '"fractions:Nothing"', "targets_import"),
        ('"json:loads"', '"json:nothing"', "targets_import"),
        (", passthrough=True", "", "targets_import"),
        ('"fake-preview"', '"doctor"', "names_are_free"),
        (
            ', suffix=".x"',
            ', suffix=".x")\n    yield ExportBackendSpec("fake-x", "a:b", "X.", suffix=".y"',
            "names_are_unique",
        ),
        ("from yolo", "import onnx\nfrom yolo", "finding_it_imports_nothing_heavy"),
        ('"Hail."', "'%s.' % __import__('random').random()", "records_are_the_same_each_time"),
    ],
)
def test_a_bad_plugin_is_caught(kit: Callable[..., dict[str, str]], old: str, new: str, caught_by: str) -> None:
    assert old in GOOD
    assert set(kit(GOOD.replace(old, new), [f"test_{caught_by}"])) == {f"test_{caught_by}"}


def test_an_empty_plugin_is_caught(kit: Callable[[str], dict[str, str]]) -> None:
    assert set(kit("")) == {"test_adds_something"}


def test_a_missing_requirement_skips_with_the_reason(kit: Callable[[str], dict[str, str]]) -> None:
    found = kit(GOOD.replace('suffix=".x"', 'suffix=".x", requires=("no_such_module",)'))
    assert set(found) == {"test_targets_import"}
    assert "needs no_such_module" in found["test_targets_import"]


def test_collect_records() -> None:
    from yolo.cli import plugin

    records = collect_records(plugin)
    assert {"predict", "plugins", "doctor"} <= {spec.name for spec in records["commands"]}
    assert records["augmentations"] == []
