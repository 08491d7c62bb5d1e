"""A broken plugin becomes a record and a line; everybody else goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

from yolo.core.errors import UsageError
from yolo.core.plugins import PluginError, PluginManager, PluginRecord, Settings, get_manager, reset_manager
from yolo.core.testing import fake_distribution

GOOD = """
from yolo.core.plugins import AugmentationSpec, hookimpl

@hookimpl
def yolo_augmentations():
    yield AugmentationSpec("snow", target="json:loads", summary="Snow.")
"""


class World:
    """A folder of fake distributions, and a manager that sees only these."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []

    def add(self, name: str, source: str, *, plugin: str | None = None, module: str | None = None) -> None:
        plugin = plugin or name.removeprefix("yolo-")
        module = module or f"fake_{name.replace('-', '_')}"
        fake_distribution(
            self.folder, name, plugins={plugin: module}, files={f"{module.replace('.', '/')}.py": source}, version="2.5"
        )

    def manager(self, **settings: object) -> PluginManager:
        points = [p for found in distributions(path=[str(self.folder)]) for p in found.entry_points]
        return PluginManager(Settings(**settings), entry_points=points, tell=self.lines.append)  # type: ignore[arg-type]

    def record(self, manager: PluginManager, name: str) -> PluginRecord:
        return next(record for record in manager.plugins if record.name == name)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    world = World(tmp_path)
    world.add("yolo-good", GOOD)
    yield world
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


def test_a_good_plugin(world: World) -> None:
    manager = world.manager()
    record = world.record(manager, "good")
    assert (record.distribution, record.version, record.status) == ("yolo-good", "2.5", "ok")
    assert record.origin == "plugin 'good' of yolo-good 2.5"
    assert [spec.name for spec in record.adds["augmentations"]] == ["snow"]
    assert manager.registry("augmentations").load("snow") is json.loads
    assert world.lines == []


BROKEN: dict[str, tuple[str, str]] = {
    "import": ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    "syntax": ("def yolo(:", "SyntaxError"),
    "exit": ("import sys; sys.exit(3)", "SystemExit"),
    "unknown hook": (
        "from yolo.core.plugins import hookimpl\n@hookimpl\ndef yolo_augmentation(): yield 1",
        "There is no hook 'yolo_augmentation'. Did you mean 'yolo_augmentations'?",
    ),
    "argument": (
        "from yolo.core.plugins import hookimpl\n@hookimpl\ndef yolo_augmentations(config): yield 1",
        "PluginValidationError",
    ),
    "hook call": (
        "from yolo.core.plugins import hookimpl\n@hookimpl\ndef yolo_augmentations(): raise RuntimeError('no rain')",
        "in yolo_augmentations: RuntimeError: no rain",
    ),
    "hook exits": (
        "from yolo.core.plugins import hookimpl\n@hookimpl\ndef yolo_commands(): raise SystemExit('bye')",
        "in yolo_commands: SystemExit: bye",
    ),
    "wrong record": (
        "from yolo.core.plugins import *\n@hookimpl\n"
        "def yolo_commands(): yield AugmentationSpec('a', target='a:b', summary='A.')",
        "in yolo_commands: TypeError: must yield CommandSpec, not AugmentationSpec",
    ),
    "bare record": (
        "from yolo.core.plugins import *\n@hookimpl\n"
        "def yolo_commands(): return CommandSpec('a', target='a:b', summary='A.')",
        "in yolo_commands: TypeError: must yield or return several CommandSpec, not CommandSpec",
    ),
    "malformed record": (
        "from yolo.core.plugins import *\n@hookimpl\ndef yolo_commands(): yield CommandSpec('a', 'nowhere', 'A.')",
        "in yolo_commands: ValueError: CommandSpec 'a': target must be 'package.module:attribute', not 'nowhere'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_a_record_and_one_line(world: World, case: str) -> None:
    source, expected = BROKEN[case]
    world.add("yolo-bad", source)
    manager = world.manager()
    record = world.record(manager, "bad")
    assert (record.distribution, record.version, record.status) == ("yolo-bad", "2.5", "broken")
    assert expected in str(record.error)
    assert "Traceback" in str(record.traceback)
    assert len(world.lines) == 1
    assert "\n" not in world.lines[0]
    assert "plugin 'bad' of yolo-bad 2.5" in world.lines[0]
    assert world.record(manager, "good").status == "ok"
    assert manager.registry("augmentations").names() == ["snow"]
    json.dumps([record.to_dict() for record in manager.plugins])


@pytest.mark.parametrize("case", BROKEN)
def test_strict_raises(world: World, case: str) -> None:
    world.add("yolo-bad", BROKEN[case][0])
    with pytest.raises(PluginError, match=r"plugin 'bad' of yolo-bad 2\.5"):
        assert world.manager(strict=True).plugins


def test_what_a_hook_yields_before_it_fails_is_kept(world: World) -> None:
    world.add("yolo-bad", GOOD.replace("snow", "hail") + "    raise RuntimeError('then it broke')\n")
    manager = world.manager()
    assert world.record(manager, "bad").status == "broken"
    assert manager.registry("augmentations").names() == ["hail", "snow"]


def test_an_optional_hook_of_a_newer_core_is_fine(world: World) -> None:
    world.add("yolo-new", GOOD.replace("snow", "fog") + "\n@hookimpl(optionalhook=True)\ndef yolo_future(): pass\n")
    manager = world.manager()
    assert world.record(manager, "new").status == "ok"
    assert world.lines == []


def test_a_plugin_may_be_an_object(world: World) -> None:
    source = GOOD.replace("@hookimpl", "class Plugin:\n  @hookimpl").replace("def yolo", "  def yolo")
    source = source.replace("augmentations():", "augmentations(self):").replace("    yield", "      yield")
    source = source.replace("snow", "sleet") + "\nplugin = Plugin()\n"
    (world.folder / "fake_object.py").write_text(source)
    fake_distribution(world.folder, "yolo-object", plugins={"object": "fake_object:plugin"})
    manager = world.manager()
    assert manager.registry("augmentations").names() == ["sleet", "snow"]


def test_a_target_that_fails(world: World) -> None:
    world.add("yolo-bad", GOOD.replace("snow", "hail").replace("json:loads", "fake_hail:Hail"))
    (world.folder / "fake_hail.py").write_text("raise OSError('driver missing')")
    manager = world.manager()
    with pytest.raises(PluginError, match=r"augmentation 'hail' of plugin 'bad' of yolo-bad 2\.5.*driver missing"):
        manager.registry("augmentations").load("hail")
    record = world.record(manager, "bad")
    assert record.status == "broken"
    assert record.error == "augmentation 'hail': OSError: driver missing"
    assert "fake_hail.py" in str(record.traceback)
    assert manager.registry("augmentations").load("snow") is json.loads


def test_a_target_without_its_attribute_gets_a_suggestion(world: World) -> None:
    world.add("yolo-bad", GOOD.replace("snow", "hail").replace("json:loads", "json:load_s"))
    with pytest.raises(PluginError, match=r"json has no 'load_s'. Did you mean 'load"):
        world.manager().registry("augmentations").load("hail")


def test_two_plugins_with_one_registered_name(world: World) -> None:
    world.add("yolo-other", GOOD)
    manager = world.manager()
    augmentations = manager.registry("augmentations")
    assert augmentations.names() == []
    with pytest.raises(PluginError, match=r"'snow'.*yolo-good 2\.5 and .*yolo-other 2\.5.*YOLO_DISABLE_PLUGINS=other"):
        augmentations.get("snow")
    assert [record.status for record in manager.plugins] == ["conflict", "conflict"]
    assert len(world.lines) == 1
    with pytest.raises(PluginError, match="yolo-good"):
        world.manager(strict=True).registry("augmentations")
    assert world.manager(disabled=frozenset({"other"})).registry("augmentations").names() == ["snow"]


def test_one_plugin_with_a_name_twice(world: World) -> None:
    spec = '    yield AugmentationSpec("hail", target="json:loads", summary="Hail.")\n'
    world.add("yolo-twice", GOOD.replace("snow", "hail") + spec)
    with pytest.raises(PluginError, match=r"'hail' is registered 2 times by the plugin 'twice' of yolo-twice 2\.5"):
        world.manager().registry("augmentations").get("hail")


def test_two_distributions_with_one_plugin_name(world: World) -> None:
    world.add("acme-good", GOOD.replace("snow", "hail"), plugin="Good")
    manager = world.manager()
    assert manager.registry("augmentations").names() == []
    assert [record.status for record in manager.plugins] == ["conflict", "conflict"]
    for record in manager.plugins:
        assert "yolo-good 2.5" in str(record.error)
        assert "acme-good 2.5" in str(record.error)
    with pytest.raises(UsageError, match=r"broken plugin: .*acme-good"):
        manager.registry("augmentations").get("hail")
    with pytest.raises(PluginError, match="acme-good"):
        world.manager(strict=True)


def test_nobody_pushes_a_first_party_plugin_out(world: World) -> None:
    world.add("acme-cli", GOOD.replace("snow", "hail"), plugin="cli")
    fake_distribution(world.folder, "yolo-cli", plugins={"cli": "yolo.cli.plugin"})
    manager = world.manager()
    assert [(r.distribution, r.status) for r in manager.plugins] == [
        ("yolo-cli", "ok"),
        ("acme-cli", "conflict"),
        ("yolo-good", "ok"),
    ]


@pytest.mark.parametrize("name", ["good", "GOOD", "yolo-good", "yolo_good"])
def test_disabled_by_plugin_or_distribution(world: World, name: str) -> None:
    manager = world.manager(disabled=frozenset({name, "not-installed"}))
    assert world.record(manager, "good").status == "disabled"
    assert manager.registry("augmentations").names() == []
    assert "fake_yolo_good" not in sys.modules
    assert world.lines == []


def test_without_third_party_the_first_party_stays(world: World) -> None:
    fake_distribution(world.folder, "yolo-cli", plugins={"cli": "yolo.cli.plugin"})
    manager = world.manager(third_party=False)
    assert [(r.name, r.status, r.first_party) for r in manager.plugins] == [
        ("cli", "ok", True),
        ("good", "disabled", False),
    ]


def test_settings_from_environment() -> None:
    assert Settings.from_environment({}) == Settings()
    environ = {"YOLO_DISABLE_PLUGINS": " a, b,,", "YOLO_NO_PLUGINS": "1", "YOLO_PLUGINS_STRICT": "true"}
    assert Settings.from_environment(environ) == Settings(
        disabled=frozenset({"a", "b"}), third_party=False, strict=True
    )
    assert not Settings.from_environment({"YOLO_PLUGINS_STRICT": "0"}).strict


def test_register_an_object_by_hand(world: World) -> None:
    manager = world.manager()
    assert manager.registry("augmentations").names() == ["snow"]
    scope: dict[str, object] = {}
    exec(GOOD.replace("snow", "hail"), scope)
    by_hand = type("ByHand", (), {"yolo_augmentations": staticmethod(scope["yolo_augmentations"])})  # type: ignore[arg-type]
    assert manager.register(by_hand, name="by-hand").status == "ok"
    assert manager.registry("augmentations").names() == ["hail", "snow"]


def test_an_interrupt_is_not_swallowed(world: World) -> None:
    world.add("yolo-slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        world.manager()


def test_the_order_does_not_depend_on_the_path(world: World) -> None:
    names: Callable[[PluginManager], list[str]] = lambda manager: [record.name for record in manager.plugins]  # noqa: E731
    world.add("yolo-a", GOOD.replace("snow", "a"))
    world.add("yolo-z", GOOD.replace("snow", "z"))
    points = [p for found in distributions(path=[str(world.folder)]) for p in found.entry_points]
    assert names(PluginManager(Settings(), entry_points=points)) == ["a", "good", "z"]
    assert names(PluginManager(Settings(), entry_points=points[::-1])) == ["a", "good", "z"]


def test_the_manager_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_NO_PLUGINS", "1")
    monkeypatch.setenv("YOLO_DISABLE_PLUGINS", "data,train,export")
    reset_manager()
    first = get_manager()
    assert get_manager() is first
    reset_manager()
    assert get_manager() is not first
    reset_manager()
