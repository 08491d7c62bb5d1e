"""What must not be in the repository, and what the tools around it promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# Written in two halves, so that this file does not name them either.
HOSTS = [
    half + rest
    for half, rest in [
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("npmjs", ".org"),
        ("deb.", "debian.org"),
        ("download.", "pytorch.org"),
        ("anaconda", ".org"),
    ]
]


@pytest.fixture(scope="module")
def texts() -> dict[Path, str]:
    """The text of every file that is, or could be, committed, as git would store it."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    found = {}
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        content = path.read_bytes()
        if name == "uv.lock":
            command = [sys.executable, str(ROOT / "scripts/lock.py"), "--clean"]
            content = subprocess.run(command, input=content, capture_output=True, check=True).stdout
        if b"\0" not in content[:8000]:
            found[Path(name)] = content.decode("utf-8")
    assert Path("pyproject.toml") in found
    return found


@pytest.mark.parametrize("host", HOSTS)
def test_no_registry_is_named(texts, host):
    assert [str(path) for path, text in texts.items() if host in text] == []


def test_no_path_of_the_machine_it_was_written_on(texts):
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home)/\w")
    shipped = {path: text for path, text in texts.items() if path.parts[0] in ("packages", "plugins", "docs")}
    assert [str(path) for path, text in shipped.items() if pattern.search(text)] == []


def test_library_code_does_not_know_the_shared_folder(texts):
    assert [str(path) for path, text in texts.items() if "src" in path.parts and "../shared" in text] == []


def test_files_are_small_enough_for_a_repository(texts):
    assert [str(path) for path in texts if (ROOT / path).stat().st_size > 1_000_000 and path.name != "uv.lock"] == []


def test_ci_script_is_executable_bash():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_pre_commit_hooks_are_local():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repository["repo"] for repository in config["repos"]} == {"local"}


LIGHT = ["yolo.core", "yolo.core.plugins", "yolo.cli"]
PLUGINS = ["yolo.cli.plugin", "yolo.data.plugin", "yolo.training.plugin", "yolo.export.plugin", "yolo_rain.plugin"]


@pytest.mark.parametrize("module", [*LIGHT, *PLUGINS])
def test_light_modules_import_nothing_heavy(module):
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'torchvision', 'cv2', 'numpy', 'lightning', 'jsonargparse'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
