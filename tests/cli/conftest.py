"""A `yolo` that sees fake distributions and, of the real ones, only yolo-cli."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from yolo.core.plugins import reset_manager
from yolo.core.testing import fake_distribution

ALONE = "data,train,export,yolo-rain"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Install a fake distribution of one plugin module: ``install("yolo-hail", source)``."""
    folder = tmp_path / "site"
    folder.mkdir()

    def add(name: str, source: str, *, plugin: str | None = None, **files: str) -> Path:
        module = f"fake_{name.replace('-', '_')}"
        texts = {f"{module}.py": source, **{f"{file}.py": text for file, text in files.items()}}
        return fake_distribution(folder, name, plugins={plugin or name.removeprefix("yolo-"): module}, files=texts)

    return add


@pytest.fixture
def yolo(
    tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run the command in this process: ``yolo("plugins", "--json")``."""
    from yolo.cli.main import main

    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("YOLO_DISABLE_PLUGINS", ALONE)
    monkeypatch.setenv("YOLO_NO_PLUGINS", "")
    monkeypatch.setenv("YOLO_PLUGINS_STRICT", "")
    monkeypatch.setenv("COLUMNS", "120")

    def run(*args: str) -> Result:
        reset_manager()
        capsys.readouterr()
        code = main(args)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    yield run
    reset_manager()
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


@pytest.fixture
def yolo_process(tmp_path: Path, install: Install) -> Run:
    """Run ``python <args>`` in a new process with the fake distributions on its path."""

    def run(*args: str, **env: str) -> Result:
        merged = {
            **os.environ,
            "PYTHONPATH": str(tmp_path / "site"),
            "YOLO_DISABLE_PLUGINS": ALONE,
            "COLUMNS": "120",
            **env,
        }
        done = subprocess.run([sys.executable, *args], capture_output=True, text=True, env=merged, timeout=120)
        return Result(done.returncode, done.stdout, done.stderr)

    return run
