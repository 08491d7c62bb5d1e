"""The lock names versions and no addresses, and a fresh clone gets exactly those versions."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from availability import tool

ROOT = Path(__file__).parents[2]
FULL = """version = 1

[[package]]
name = "a"
version = "1.0"
source = { registry = "https://registry.example/simple" }
dependencies = [
    { name = "b", version = "2.0", source = { registry = "https://registry.example/simple" } },
]
sdist = { url = "https://files.example/a-1.0.tar.gz", hash = "sha256:00", size = 1 }
wheels = [
    { url = "https://files.example/a-1.0-py3-none-any.whl", hash = "sha256:00", size = 1 },
]

[[package]]
name = "member"
source = { editable = "packages/member" }
dependencies = [
    { name = "a" },
]

[package.optional-dependencies]
x = [
    { name = "b" },
]

[package.metadata]
requires-dist = [{ name = "a", specifier = ">=1" }]
provides-extras = ["x"]

[package.metadata.requires-dev]
dev = [{ name = "b" }]

[[package]]
name = "z"
version = "3.0"
source = { registry = "https://registry.example/simple" }
"""
STRIPPED = """version = 1

[[package]]
name = "a"
version = "1.0"
source = { registry = "https://index.invalid/simple" }
dependencies = [
    { name = "b", version = "2.0", source = { registry = "https://index.invalid/simple" } },
]

[[package]]
name = "member"
source = { editable = "packages/member" }
dependencies = [
    { name = "a" },
]

[package.optional-dependencies]
x = [
    { name = "b" },
]

[[package]]
name = "z"
version = "3.0"
source = { registry = "https://index.invalid/simple" }
"""


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    """The module scripts/lock.py."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / "scripts/lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def committed(lock) -> str:
    """The lock as git stores it."""
    return lock.strip((ROOT / "uv.lock").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def uv() -> str:
    return tool("uv")


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {
        key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")
    }
    finished = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    unreachable = "Failed to fetch" in finished.stderr or "connect" in finished.stderr
    if finished.returncode != 0 and unreachable and os.environ.get("CI") != "true":
        pytest.skip("no package registry can be reached from here")
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def _versions(text: str) -> list[tuple[str, str | None]]:
    return sorted((package["name"], package.get("version")) for package in tomllib.loads(text)["package"])


def test_strip(lock):
    assert lock.strip(FULL) == STRIPPED
    assert lock.strip(STRIPPED) == STRIPPED


def test_addresses_are_found(lock):
    assert lock.addresses(FULL) == ["https://files.example", "https://registry.example"]
    assert lock.addresses(STRIPPED) == []


def test_the_lock_that_git_stores_is_stripped(lock, committed):
    shown = subprocess.run(["git", "show", ":uv.lock"], cwd=ROOT, capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        pytest.skip("uv.lock is not in git's index")
    assert lock.addresses(shown.stdout) == []
    assert lock.strip(shown.stdout) == shown.stdout
    assert _versions(shown.stdout) == _versions(committed)


def _exported(uv: str, folder: Path, *options: str) -> dict[str, Version]:
    text = _run(uv, "export", "--frozen", "--no-hashes", "--no-annotate", "--no-header", *options, cwd=folder)
    pins = [Requirement(line) for line in text.splitlines() if "==" in line and not line.startswith(("-", "#"))]
    return {pin.name: Version(str(pin.specifier).removeprefix("==")) for pin in pins}


@pytest.fixture(scope="module")
def clone(lock, committed, tmp_path_factory) -> Path:
    """A copy of the workspace's metadata with the lock as it is committed."""
    folder = tmp_path_factory.mktemp("clone")
    lock.copy_workspace(folder, committed)
    return folder


def test_a_plain_sync_is_the_modern_set(uv, clone):
    versions = _exported(uv, clone)
    assert versions["numpy"] >= Version("2.2")
    assert versions["onnx"] >= Version("1.20")
    assert versions["onnxruntime"] >= Version("1.24")
    assert versions["opencv-python"] >= Version("4.12")
    assert versions["protobuf"] >= Version("5")
    assert versions["pyturbojpeg"] < Version("2")
    assert versions["jsonargparse"] < Version("5")
    assert "tensorflow" not in versions


def test_the_tflite_extra_keeps_its_old_pins_to_itself(uv, clone):
    versions = _exported(uv, clone, "--package", "yolo-export", "--extra", "tflite", "--extra", "onnx")
    assert versions["onnx2tf"] >= Version("1.29.24"), "an older onnx2tf declares no requirements at all"
    assert versions["numpy"] < Version("2")
    assert versions["onnx"] < Version("1.20")
    assert versions["setuptools"] < Version("82")
    assert "tensorflow" in versions


def test_the_two_sets_exclude_each_other(committed):
    conflicts = tomllib.loads(committed)["conflicts"]
    assert [
        {"package": "yolo-export", "extra": "tflite"},
        {"package": "yolo-workspace", "group": "modern"},
    ] in conflicts


def test_a_fresh_clone_keeps_the_versions_and_shows_no_change(uv, lock, committed, clone, tmp_path):
    for name in (".gitattributes", "scripts"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, tmp_path / name)
    lock.copy_workspace(tmp_path, committed)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    _run(*git, "init", "--quiet", cwd=tmp_path)
    _run(*git, "add", ".gitattributes", "scripts", "pyproject.toml", "uv.lock", cwd=tmp_path)
    _run(*git, "commit", "--quiet", "-m", "a clone", cwd=tmp_path)

    _run(uv, "lock", "--quiet", cwd=tmp_path)

    completed = (tmp_path / "uv.lock").read_text(encoding="utf-8")
    assert "wheels = [" in completed, "uv was to complete the lock"
    assert _versions(completed) == _versions(committed)
    assert lock.strip(completed) == committed, "run `python scripts/lock.py` and commit uv.lock"
    status = ["status", "--porcelain", "--untracked-files=no"]
    assert _run(*git, *status, cwd=tmp_path) == " M uv.lock\n", "without the filter, git sees the addresses"
    command = 'git config filter.uvlock.clean "python3 scripts/lock.py --clean" && git add uv.lock'
    assert command in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _run("bash", "-c", command, cwd=tmp_path)
    assert _run(*git, *status, cwd=tmp_path) == ""
    assert lock.addresses(_run(*git, "show", ":uv.lock", cwd=tmp_path)) == []

    _run(uv, "lock", "--quiet", cwd=tmp_path)
    assert (tmp_path / "uv.lock").read_text(encoding="utf-8") == completed, "uv leaves a completed lock alone"
    assert _run(*git, *status, cwd=tmp_path) == ""


@pytest.mark.slow
def test_a_fresh_clone_installs_exactly_the_locked_versions(uv, clone):
    expected = _exported(uv, clone)
    _run(uv, "sync", "--quiet", cwd=clone)
    listed = json.loads(_run(uv, "pip", "list", "--format", "json", "--python", clone / ".venv", cwd=clone))
    installed = {package["name"]: Version(package["version"]) for package in listed}
    members = {name for name in installed if name.startswith("yolo-")}
    assert len(members) == 6
    assert {name: version for name, version in installed.items() if name not in members} == {
        name: version for name, version in expected.items() if name in installed
    }
    absent = set(expected) - set(installed)
    assert absent <= {"colorama", "pywin32", "tzdata"}, f"locked, but not installed: {absent}"
