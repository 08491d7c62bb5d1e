"""What a record accepts and refuses."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest

from yolo.core.plugins import HOOKS, KINDS, AugmentationSpec, CommandSpec, ExportBackendSpec, PluginSpec, hookspecs


def make(kind: str, **changes: object) -> PluginSpec:
    values: dict[str, object] = {"name": "thing", "target": "a.b:C", "summary": "A thing."}
    if kind == "export_backends":
        values["suffix"] = ".onnx"
    return HOOKS[kind][1](**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_frozen_record(kind: str) -> None:
    spec = make(kind)
    assert (spec.name, spec.target, spec.summary) == ("thing", "a.b:C", "A thing.")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "two words"},
        {"name": "dotted.name"},
        {"name": 3},
        {"target": "a.b.C"},
        {"target": "a:b:c"},
        {"target": ":C"},
        {"target": None},
        {"summary": " "},
        {"summary": "two\nlines"},
    ],
)
def test_a_malformed_record_is_refused(kind: str, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        make(kind, **changes)


def test_fields_of_one_kind() -> None:
    assert AugmentationSpec("rain", "a:B", "Rain.").stage == "sample"
    assert CommandSpec("fit", target="a:b", summary="Train.").passthrough is False
    with pytest.raises(ValueError, match="stage"):
        AugmentationSpec("rain", "a:B", "Rain.", stage="image")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="suffix"):
        ExportBackendSpec("onnx", "a:B", "ONNX.", suffix="")
    with pytest.raises(ValueError, match="requires"):
        ExportBackendSpec("onnx", "a:B", "ONNX.", suffix=".onnx", requires="onnx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="runtime"):
        ExportBackendSpec("onnx", "a:B", "ONNX.", suffix=".onnx", runtime="no target")


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_shows_an_example_that_runs(kind: str) -> None:
    hook, spec_type, _ = HOOKS[kind]
    doc = inspect.getdoc(getattr(hookspecs, hook)) or ""
    example = inspect.cleandoc(doc.partition("Example::")[2])
    scope: dict[str, object] = {}
    exec(compile(example, hook, "exec"), scope)
    records = list(scope[hook]())  # type: ignore[operator]
    assert records
    assert all(isinstance(record, spec_type) for record in records)


def test_the_contract_imports_no_torch() -> None:
    code = (
        "import sys, yolo.core.plugins; yolo.core.plugins.get_manager();"
        "print([m for m in ('torch', 'numpy', 'cv2', 'rich', 'click') if m in sys.modules])"
    )
    env = {"YOLO_NO_PLUGINS": "1", "YOLO_DISABLE_PLUGINS": "cli,data,train,export"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == "[]"
