"""Names: found, misspelt, and written in a config in three ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from types import SimpleNamespace

import pytest

from yolo.core.errors import UsageError, YoloError
from yolo.core.plugins import (
    AugmentationSpec,
    ExportBackendSpec,
    MissingRequirementError,
    PluginManager,
    Settings,
    did_you_mean,
    hookimpl,
    load_target,
    manager,
    registry,
    resolve,
)


class Plugin:
    @hookimpl
    def yolo_augmentations(self) -> list[AugmentationSpec]:
        return [
            AugmentationSpec("mosaic", target="json:dumps", summary="Four in one.", stage="mix"),
            AugmentationSpec("fraction", target="fractions:Fraction", summary="A class."),
        ]

    @hookimpl
    def yolo_export_backends(self) -> list[ExportBackendSpec]:
        return [
            ExportBackendSpec("plain", target="json:dumps", summary="JSON.", suffix=".json", runtime="json:loads"),
            ExportBackendSpec(
                "exotic",
                target="json:dumps",
                summary="Needs what nobody has.",
                suffix=".exo",
                requires=("json", "no_such_module", "no_such.sub"),
                extra="exotic",
            ),
        ]


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginManager]:
    made = PluginManager(Settings(), entry_points=())
    made.register(Plugin(), name="test", distribution="yolo-test", version="1.0")
    monkeypatch.setattr(manager, "get_manager", lambda: made)
    yield made


def test_names_specs_and_load() -> None:
    augmentations = registry("augmentations")
    assert augmentations.names() == ["fraction", "mosaic"]
    assert [spec.name for spec in augmentations] == ["fraction", "mosaic"]
    assert "mosaic" in augmentations
    assert len(augmentations) == 2
    assert augmentations.load("mosaic") is json.dumps
    assert augmentations.plugin("mosaic").distribution == "yolo-test"


def test_a_misspelt_name() -> None:
    with pytest.raises(UsageError, match=r"There is no augmentation 'mosiac'\. Did you mean 'mosaic'\?"):
        registry("augmentations").get("mosiac")
    with pytest.raises(UsageError, match=r"Known: fraction, mosaic\."):
        registry("augmentations").get("zzz")
    with pytest.raises(UsageError, match="None is registered"):
        registry("image_loaders").get("fast")
    with pytest.raises(UsageError, match="Did you mean 'augmentations'"):
        registry("augmentation")


def test_a_missing_requirement_says_what_to_install(plugins: PluginManager) -> None:
    with pytest.raises(MissingRequirementError, match=r"no_such_module, no_such.sub.*'yolo-test\[exotic\]'"):
        registry("export_backends").load("exotic")
    assert plugins.plugins[0].status == "ok"


def test_runtimes() -> None:
    assert registry("export_backends").load_runtime("plain") is json.loads
    with pytest.raises(UsageError, match="has no runtime"):
        registry("export_backends").load_runtime("exotic")


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        ("fraction", {}),
        ("fractions.Fraction", {}),
        ("fractions:Fraction", {}),
        ({"class_path": "fraction", "init_args": {"numerator": 1}}, {"numerator": 1}),
        ({"class_path": "fractions.Fraction"}, {}),
        ({"class_path": "fractions.Fraction", "init_args": None}, {}),
        (SimpleNamespace(class_path="fraction", init_args=SimpleNamespace(numerator=2)), {"numerator": 2}),
        ({"use": "fraction", "numerator": 3}, {"numerator": 3}),
        ({"use": "fractions.Fraction", "denominator": 4}, {"denominator": 4}),
    ],
)
def test_resolve(value: object, arguments: dict[str, int]) -> None:
    assert resolve("augmentations", value) == (Fraction, arguments)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("fractoin", "Did you mean 'fraction'"),
        ({"use": "fractoin"}, "Did you mean 'fraction'"),
        (3, "Name the augmentation by a name"),
        ({"p": 0.5}, "Name the augmentation by a name"),
        ({"use": None}, "must be text"),
        ("", "must be text"),
        ("..", "must be text"),
        ({"class_path": "fraction", "numerator": 3}, "key 'numerator' beside class_path"),
        ({"class_path": "fraction", "init_args": 3}, "must be a mapping"),
    ],
)
def test_resolve_refuses(value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve("augmentations", value)


def test_a_class_path_that_does_not_import() -> None:
    with pytest.raises(YoloError, match=r"'nowhere.at:All' cannot be imported: ModuleNotFoundError"):
        resolve("augmentations", "nowhere.at.All")
    with pytest.raises(YoloError, match="Did you mean 'Fraction'"):
        resolve("augmentations", "fractions.Fractoin")


def test_load_target() -> None:
    assert load_target("fractions:Fraction.from_float") == Fraction.from_float
    for bad in ("fractions", ":Fraction", "fractions:"):
        with pytest.raises(YoloError, match="not of the form"):
            load_target(bad)


def test_suggestions() -> None:
    assert did_you_mean("Cache_Creat", ["cache-create", "fit"]) == "Did you mean 'cache-create'?"
    assert did_you_mean("zzz", ["cache-create", "fit"]) == ""
