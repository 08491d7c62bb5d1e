"""Which interpreter converts, and how one is made: with a `uv` that only pretends."""

from __future__ import annotations

import importlib.metadata
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from yolo.core.plugins import registry
from yolo.export.backends.base import ExportOptions
from yolo.export.converter import environment
from yolo.export.converter.environment import EnvironmentUnavailableError, converter_python, has_requirements

# The first call is `uv venv ... FOLDER`, the second `uv pip install ...`; each call adds a line to a log.
UV = """#!{python}
import os, pathlib, sys, time
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:3]) + "\\n")
if sys.argv[1] == "venv":
    python = pathlib.Path(sys.argv[-1], "bin", "python")
    python.parent.mkdir(parents=True)
    python.write_text("")
{extra}
print("Resolved 60 packages in 1s\\n + tensorflow==2.19.0", file=sys.stderr)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache, no TensorFlow here, and no uv."""
    monkeypatch.setenv("YOLO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("YOLO_CONVERTER_PYTHON", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(environment, "has_requirements", lambda: False)
    monkeypatch.setattr(environment.sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "home"


@pytest.fixture
def uv(home, tmp_path):
    """Install the pretended uv; returns a function that gives its calls."""
    python, log = Path(sys.prefix, "bin", "python"), tmp_path / "calls"

    def install(extra: str = ""):
        program = tmp_path / "bin" / "uv"
        program.write_text(UV.format(python=python, log=str(log), extra=extra))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return lambda: log.read_text().splitlines() if log.exists() else []

    return install


def test_it_is_made_once_and_kept(home, uv):
    calls, told = uv(), []
    python = converter_python(progress=told.append)
    assert python.is_file() and home in python.parents
    assert calls() == ["venv --no-project", "pip install"]
    assert "once" in told[0] and "uv: Resolved 60 packages in 1s" in told
    assert converter_python(progress=told.append) == python
    assert len(calls()) == 2


@pytest.mark.parametrize("name", ["tflite", "saved_model"])
def test_a_missing_uv_is_told_before_any_work(home, uv, name):
    pytest.importorskip("onnx")
    pytest.importorskip("ai_edge_litert")
    backend = registry("export_backends").load(name)()
    with pytest.raises(EnvironmentUnavailableError, match="pip install uv"):
        backend.check(ExportOptions())
    calls = uv()
    backend.check(ExportOptions())
    assert calls() == []


def test_words_of_uv_are_not_cut(home, uv):
    uv("sys.exit('error: ' + 'elephant ' * 99 + 'dns error')")
    with pytest.raises(EnvironmentUnavailableError, match=r"\(uv: \.\.\. elephant .* elephant dns error\)") as caught:
        converter_python(progress=lambda text: None)
    assert len(str(caught.value)) < 500


def test_the_users_project_has_no_say(home, uv, tmp_path, monkeypatch):
    """uv takes constraints from a pyproject.toml in its folder, and from variables; a mirror is still the user's."""
    uv("print('Building', os.getcwd(), sorted(os.environ), file=sys.stderr)")
    monkeypatch.chdir(tmp_path)
    for name in ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_PYTHON", "PYTHONPATH", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "x")
    told = []
    converter_python(progress=told.append)
    said = [text for text in told if "Building" in text]
    assert len(said) == 2 and all(text.startswith(f"uv: Building {home}/converter [") for text in said)
    assert "UV_INDEX_URL" in said[0]
    assert not any(name in said[0] for name in ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_PYTHON", "PYTHONPATH"))


def test_a_half_made_one_is_made_again(home, uv):
    calls = uv()
    folder = environment.environment_folder()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("")
    (folder / "rest").write_text("of a killed process")
    converter_python(progress=lambda text: None)
    assert len(calls()) == 2 and not (folder / "rest").exists()


def test_a_failure_leaves_nothing_and_the_next_call_tries_again(home, uv):
    uv("if sys.argv[1] == 'pip': sys.exit('error: Failed to fetch: dns error')")
    with pytest.raises(EnvironmentUnavailableError):
        converter_python(progress=lambda text: None)
    assert not environment.environment_folder().exists()
    uv()
    assert converter_python(progress=lambda text: None).is_file()


def test_an_interruption_leaves_nothing(home, uv):
    uv()

    def interrupt(text):
        if text.startswith("uv:"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converter_python(progress=interrupt)
    assert not environment.environment_folder().exists()


def test_of_two_processes_one_makes_it(home, uv, tmp_path):
    calls = uv("time.sleep(0.5)")
    # The children find the pretended uv on their path, and no TensorFlow in the interpreter of the tests.
    code = (
        "from yolo.export.converter import environment as e; e.has_requirements = lambda: False\n"
        "print(e.converter_python(progress=lambda text: None))"
    )
    python = Path(sys.prefix, "bin", "python")
    command = [str(python), "-c", code]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0].strip() for process in started]
    assert printed[0] == printed[1] == str(converter_python())
    assert sorted(calls()) == ["pip install", "venv --no-project"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("error: No interpreter found for Python 3.11 in managed installations", "uv python install 3.11"),
        ("error: Failed to fetch: `tensorflow` Caused by: dns error: failed to lookup", "is there a network"),
        ("error: error sending request for url", "is there a network"),
        ("Network connectivity is disabled (`UV_OFFLINE`), and not in cache", "is there a network"),
        ("error: failed to write: No space left on device (os error 28)", "not enough space"),
        ("error: something new\\n  in two lines", "uv said: error: something new in two lines"),
    ],
)
def test_reasons_are_told_in_a_line(home, uv, said, words):
    uv(f"sys.exit({said.encode().decode('unicode_escape')!r})")
    with pytest.raises(EnvironmentUnavailableError) as raised:
        converter_python(progress=lambda text: None)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_without_uv_it_is_said_how_to_get_it(home):
    with pytest.raises(EnvironmentUnavailableError, match=r"pip install uv .*yolo-export\[tflite\]"):
        converter_python(progress=lambda text: None)


def test_a_folder_that_cannot_be_written(home, uv):
    uv()
    home.write_text("a file where the folder should be")
    with pytest.raises(EnvironmentUnavailableError, match="cannot make the converter's environment"):
        converter_python(progress=lambda text: None)


def test_this_interpreter_serves_where_the_extra_is_installed(home, monkeypatch):
    monkeypatch.setattr(environment, "has_requirements", lambda: True)
    assert str(converter_python()) == sys.executable


def test_an_interpreter_can_be_named(home, monkeypatch, tmp_path):
    python = tmp_path / "python"
    monkeypatch.setenv("YOLO_CONVERTER_PYTHON", str(python))
    with pytest.raises(EnvironmentUnavailableError, match="YOLO_CONVERTER_PYTHON"):
        converter_python()
    python.write_text("")
    assert converter_python() == python


@pytest.mark.parametrize(
    ("versions", "right"),
    [
        ({"onnx2tf": "1.29.24", "tensorflow": "2.19.0", "tf-keras": "2.19.0"}, True),
        ({"onnx2tf": "1.28.8", "tensorflow": "2.19.0", "tf-keras": "2.19.0"}, False),
        ({"onnx2tf": "1.29.24", "tensorflow": "2.21.0", "tf-keras": "2.19.0"}, False),
        ({"tensorflow": "2.19.0", "tf-keras": "2.19.0"}, False),
    ],
)
def test_versions_decide(versions, right):
    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    assert has_requirements(version) is right


def test_what_is_installed_apart_is_what_the_extra_says():
    """The exact versions lie in the ranges of `yolo-export[tflite]`."""
    import tomllib

    from packaging.requirements import Requirement

    place = Path(__file__).parents[2] / "packages/yolo-export/pyproject.toml"
    extra = tomllib.loads(place.read_text())["project"]["optional-dependencies"]["tflite"]
    ranges = {entry.name: entry.specifier for entry in map(Requirement, extra)}
    exact = {entry.name: entry.specifier for entry in map(Requirement, environment.REQUIREMENTS)}
    assert ranges.keys() == exact.keys()
    for name, specifier in exact.items():
        for part in specifier:
            assert part.version in ranges[name] or specifier == ranges[name]


def test_the_folder_depends_on_the_versions(home, monkeypatch):
    before = environment.environment_folder()
    monkeypatch.setattr(environment, "REQUIREMENTS", ("onnx2tf==2",))
    assert environment.environment_folder() != before
    assert os.environ["YOLO_HOME"] in str(before)
