"""Every member builds; each wheel owns its part of the namespace, and works in an empty environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from availability import tool

ROOT = Path(__file__).parents[2]
OWN = {
    "yolo_core": ["yolo/core/"],
    "yolo_cli": ["yolo/cli/", "yolo/__main__.py"],
    "yolo_data": ["yolo/data/"],
    "yolo_train": ["yolo/training/"],
    "yolo_export": ["yolo/export/"],
    "yolo_rain": ["yolo_rain/"],
}
TRAINING = {"fit", "validate"}
SHELL = {"plugins", "doctor", "models", "checkpoint"}


@pytest.fixture(scope="module")
def uv() -> str:
    return tool("uv")


def _run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    # Away from the checkout and its environment, so that nothing but the installed wheels is seen.
    hidden = ("VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    finished = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert not check or finished.returncode == 0, finished.stdout + finished.stderr
    return finished


@pytest.fixture(scope="module")
def wheels(uv, tmp_path_factory) -> dict[str, Path]:
    """The wheel of every member, built once: distribution name -> file."""
    folder = tmp_path_factory.mktemp("wheels")
    finished = _run(uv, "build", "--all-packages", "--wheel", "--quiet", "--out-dir", folder, cwd=ROOT, check=False)
    if finished.returncode != 0 and "Failed to fetch" in finished.stderr and os.environ.get("CI") != "true":
        pytest.skip("the build backend cannot be fetched from here")
    assert finished.returncode == 0, finished.stderr
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


def test_every_member_builds_and_the_root_does_not(wheels):
    assert set(wheels) == set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_a_wheel_owns_its_part_only(wheels, name):
    with zipfile.ZipFile(wheels[name]) as wheel:
        files = [file for file in wheel.namelist() if ".dist-info/" not in file]
        metadata = {file.split(".dist-info/")[1] for file in wheel.namelist() if ".dist-info/" in file}
    assert files
    assert [file for file in files if not file.startswith(tuple(OWN[name]))] == []
    assert OWN[name][0] + "py.typed" in files
    assert not any("__pycache__" in file or "test_" in file for file in files)
    assert {"METADATA", "RECORD", "licenses/LICENSE"} <= metadata
    if name != "yolo_core":
        assert "entry_points.txt" in metadata


@pytest.mark.parametrize("name", OWN)
def test_a_wheel_forgets_no_file(wheels, name):
    source = next(ROOT.glob(f"p*/{name.replace('_', '-')}/src"))
    on_disk = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheels[name]) as wheel:
        missing = on_disk - set(wheel.namelist())
    assert missing == set(), "does .gitignore name something that is to be shipped?"


def _installed(uv: str, wheels: dict[str, Path], folder: Path, requirement: str) -> Path:
    """Install one requirement into an empty environment, with our wheels offered beside the registry's."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    _run(uv, "venv", "--quiet", "--python", python, folder / "venv", cwd=folder)
    links = next(iter(wheels.values())).parent
    options = ["--quiet", "--python", folder / "venv", "--find-links", links]
    _run(uv, "pip", "install", *options, requirement, cwd=folder)
    return folder / "venv/bin"


def _commands(bin_folder: Path, cwd: Path) -> set[str]:
    """Return the names that `yolo --help` lists, once every installed plugin is seen to work."""
    plugins = json.loads(_run(bin_folder / "yolo", "plugins", "--json", cwd=cwd).stdout)
    assert [plugin for plugin in plugins if plugin["status"] != "ok"] == []
    added = {command["name"] for plugin in plugins for command in plugin["adds"].get("commands", [])}
    help_text = _run(bin_folder / "yolo", "--help", cwd=cwd).stdout
    section = help_text.partition("Commands:\n")[2].partition("\n\n")[0]
    listed = {line.split()[0] for line in section.splitlines() if line[2:3].strip()}
    assert listed == added
    return listed


def _has(bin_folder: Path, module: str, cwd: Path) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return _run(bin_folder / "python", "-c", code, cwd=cwd, check=False).returncode == 0


@pytest.mark.slow
def test_yolo_train_alone(uv, wheels, tmp_path):
    bin_folder = _installed(uv, wheels, tmp_path, "yolo-train")
    commands = _commands(bin_folder, tmp_path)
    assert TRAINING | SHELL | {"predict"} <= commands
    assert "export" not in commands
    assert not _has(bin_folder, "yolo.export", tmp_path)
    assert not _has(bin_folder, "onnx", tmp_path)
    for command in sorted(commands):
        assert _run(bin_folder / "yolo", command, "--help", cwd=tmp_path).stdout


@pytest.mark.slow
def test_yolo_export_with_onnx_alone(uv, wheels, tmp_path):
    bin_folder = _installed(uv, wheels, tmp_path, "yolo-export[onnx]")
    commands = _commands(bin_folder, tmp_path)
    assert SHELL | {"predict", "export"} <= commands
    assert commands.isdisjoint(TRAINING | {"test", "rain-preview"})
    assert _has(bin_folder, "onnxruntime", tmp_path)
    for module in ("lightning", "lmdb", "jsonargparse", "tensorflow", "yolo.data", "yolo.training"):
        assert not _has(bin_folder, module, tmp_path), module
    for command in sorted(commands):
        assert _run(bin_folder / "yolo", command, "--help", cwd=tmp_path).stdout


@pytest.mark.slow
def test_a_trained_checkpoint_predicts_where_only_core_and_cli_are(uv, wheels, tmp_path):
    """Train here, predict in an environment that cannot train: the file alone is enough."""
    from yolo.data.synthetic import ensure_synthetic

    data = ensure_synthetic(tmp_path / "data", train=8, val=4, image_size=96)
    fit = ["fit", "--config", "debug", f"--data.root={data}", "--data.format=yolo", "--data.image_size=96"]
    _run(Path(sys.executable).with_name("yolo"), *fit, "--trainer.max_epochs=1", cwd=tmp_path)
    checkpoint = tmp_path / "runs/yolo/version_0/checkpoints/last.ckpt"

    bin_folder = _installed(uv, wheels, tmp_path, "yolo-cli")
    assert _commands(bin_folder, tmp_path) == SHELL | {"predict"}
    for module in ("lightning", "yolo.data", "yolo.training", "yolo.export", "onnx"):
        assert not _has(bin_folder, module, tmp_path), module
    shutil.move(checkpoint, tmp_path / "model.ckpt")
    shutil.rmtree(tmp_path / "runs")
    pictures = next(path for path in data.rglob("val") if path.is_dir() and "images" in path.parts)
    options = ["--checkpoint", "model.ckpt", "--source", pictures, "--output", "out", "--conf", "0.0001"]
    _run(bin_folder / "yolo", "predict", "--save-json", *options, cwd=tmp_path)
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    assert len(found["images"] if isinstance(found, dict) else found) == 4
    shown = _run(bin_folder / "yolo", "checkpoint", "show", "model.ckpt", cwd=tmp_path).stdout
    assert "v9-t" in shown and "96x96" in shown
