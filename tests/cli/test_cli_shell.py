"""The shell: lazy commands, arguments passed on untouched, errors in one line, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

COMMANDS = """
from yolo.core.plugins import CommandSpec, hookimpl

@hookimpl
def yolo_commands():
    yield CommandSpec("hail", target="fake_hail:hail", summary="Show hail.")
    yield CommandSpec("echo", target="fake_hail:echo", summary="Show the arguments.", passthrough=True)
    yield CommandSpec("wrong", target="fake_hail:echo", summary="Not a click command.")
    yield CommandSpec("gone", target="fake_gone:gone", summary="Its module is missing.")
"""

HAIL = """
import json, os, sys
import click
from yolo.core.errors import UsageError, YoloError

@click.command()
@click.option("--raise", "what", default="")
def hail(what):
    if what == "abort":
        raise click.Abort
    if what == "exit":
        sys.exit("stopped by hail")
    if what:
        raise {
            "yolo": YoloError("hail.yaml, line 3: size must be positive"),
            "usage": UsageError("--size: 'x' is not a number"),
            "bug": KeyError("size"),
            "interrupt": KeyboardInterrupt(),
        }[what]
    click.echo("hail!")
    return 5

def echo(args):
    print(json.dumps({"args": args, "no_plugins": os.environ.get("YOLO_NO_PLUGINS", "")}))
    if args[:1] == ["--exit"]:
        sys.exit(int(args[1]))
    return int(args[1]) if args[:1] == ["--return"] else None
"""


@pytest.fixture
def hail(install: Callable[..., Path]) -> Path:
    return install("yolo-hail", COMMANDS, plugin="hailstorm", fake_hail=HAIL)


@pytest.mark.usefixtures("hail")
class TestWithCommands:
    def test_help_lists_summaries_and_imports_no_command(self, yolo: Run) -> None:
        result = yolo("--help")
        assert result.code == 0
        for text in ("hail", "Show hail.", "Its module is missing.", "doctor", "plugins", "--no-plugins", "--debug"):
            assert text in result.out
        assert "fake_hail" not in sys.modules
        assert result.err == ""

    def test_a_command_is_imported_when_it_runs(self, yolo: Run) -> None:
        result = yolo("hail")
        assert (result.code, result.out) == (0, "hail!\n")
        assert "fake_hail" in sys.modules
        assert "Usage: yolo hail" in yolo("hail", "--help").out

    @pytest.mark.parametrize(
        "args",
        [
            [],
            ["--help"],
            ["-h", "--version"],
            ["--config", "a.yaml", "--trainer.max_epochs=5", "--", "--debug", "-x"],
            ["--", "--no-plugins"],
            ["positional", "--flag", "", "with space", "--print_config"],
        ],
    )
    def test_a_passthrough_command_gets_everything_untouched(self, yolo: Run, args: list[str]) -> None:
        result = yolo("echo", *args)
        assert result.code == 0
        assert json.loads(result.out)["args"] == args

    @pytest.mark.parametrize(("args", "code"), [(["--return", "3"], 3), (["--exit", "4"], 4), (["--return", "0"], 0)])
    def test_a_passthrough_command_sets_the_exit_code(self, yolo: Run, args: list[str], code: int) -> None:
        assert yolo("echo", *args).code == code

    def test_global_flags_stand_before_the_command(self, yolo: Run) -> None:
        result = yolo("--debug", "echo", "--debug")
        assert json.loads(result.out)["args"] == ["--debug"]

    @pytest.mark.parametrize(
        ("what", "code", "line"),
        [
            ("yolo", 1, "Error: hail.yaml, line 3: size must be positive"),
            ("usage", 2, "Error: --size: 'x' is not a number"),
            ("bug", 1, "Error: KeyError: 'size' (unexpected; 'yolo --debug ...' shows the traceback)"),
            ("abort", 1, "Aborted."),
            ("exit", 1, "Error: stopped by hail"),
        ],
    )
    def test_an_error_is_one_line(self, yolo: Run, what: str, code: int, line: str) -> None:
        result = yolo("hail", "--raise", what)
        assert (result.code, result.err, result.out) == (code, f"{line}\n", "")

    def test_an_interrupt_is_130(self, yolo: Run) -> None:
        result = yolo("hail", "--raise", "interrupt")
        assert result.code == 130
        assert result.err.strip() == "Interrupted."

    @pytest.mark.parametrize("what", ["yolo", "bug"])
    def test_debug_shows_the_traceback(self, yolo: Run, what: str) -> None:
        result = yolo("--debug", "hail", "--raise", what)
        assert result.code == 1
        assert "Traceback (most recent call last)" in result.err
        assert "fake_hail.py" in result.err
        assert result.err.rstrip().splitlines()[-1].startswith("Error: ")

    def test_an_unknown_command(self, yolo: Run) -> None:
        result = yolo("hial")
        assert result.code == 2
        assert result.err == "Error: There is no command 'hial'. Did you mean 'hail'?\n"

    def test_an_unknown_option(self, yolo: Run) -> None:
        for args in (["--foo"], ["hail", "--foo"], ["--foo", "hail"]):
            result = yolo(*args)
            assert result.code == 2
            assert "--foo" in result.err
            assert "--help'" in result.err
            assert len(result.err.splitlines()) == 1

    def test_a_command_whose_module_is_missing(self, yolo: Run) -> None:
        result = yolo("gone")
        assert result.code == 1
        expected = "The command 'gone' of plugin 'hailstorm' of yolo-hail 1.0 does not load: ModuleNotFoundError"
        assert expected in result.err
        assert len(result.err.splitlines()) == 1
        assert "Traceback" in yolo("--debug", "gone").err

    def test_a_command_of_the_wrong_type(self, yolo: Run) -> None:
        result = yolo("wrong")
        assert result.code == 1
        assert "fake_hail:echo must be a click.Command, not function" in result.err

    def test_no_plugins(self, yolo: Run) -> None:
        for args in (["--no-plugins", "--help"], ["--help", "--no-plugins"]):
            result = yolo(*args)
            assert "hail" not in result.out
            assert "doctor" in result.out
        result = yolo("--no-plugins", "hail")
        assert result.code == 2
        assert "There is no command 'hail'" in result.err

    def test_no_plugins_reaches_child_processes(self, yolo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        yolo("--no-plugins", "plugins")
        assert os.environ["YOLO_NO_PLUGINS"] == "1"
        monkeypatch.setenv("YOLO_NO_PLUGINS", "")
        assert json.loads(yolo("echo").out)["no_plugins"] == ""

    def test_shell_completion_imports_nothing(self, yolo_process: Run) -> None:
        env = {"_YOLO_COMPLETE": "bash_complete", "COMP_WORDS": "yolo h", "COMP_CWORD": "1"}
        result = yolo_process("-m", "yolo", **env)
        assert "plain,hail" in result.out


def test_two_commands_with_one_name(yolo: Run, install: Callable[..., Path]) -> None:
    install("yolo-hail", COMMANDS, fake_hail=HAIL)
    install("yolo-storm", COMMANDS)
    result = yolo("hail")
    assert result.code == 1
    assert "yolo-hail 1.0" in result.err.splitlines()[-1]
    assert "yolo-storm 1.0" in result.err.splitlines()[-1]
    assert yolo("plugins").code == 0


def test_a_broken_plugin_does_not_stop_the_others(yolo: Run, install: Callable[..., Path]) -> None:
    install("yolo-bad", "import no_such_module")
    result = yolo("--help")
    assert result.code == 0
    assert "plugin 'bad' of yolo-bad 1.0 is broken" in result.err
    assert len(result.err.splitlines()) == 1
    assert "bad (yolo-bad 1.0)" in result.out
    assert "ModuleNotFoundError" in yolo("frobnicate").err


def test_strict(yolo: Run, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    install("yolo-bad", "import no_such_module")
    monkeypatch.setenv("YOLO_PLUGINS_STRICT", "1")
    result = yolo("--help")
    assert result.code == 1
    assert "YOLO_PLUGINS_STRICT" in result.err


def test_version_and_no_arguments(yolo: Run) -> None:
    assert yolo("--version").out.startswith("yolo 0.")
    result = yolo()
    assert result.code == 2
    assert "Usage: yolo" in result.err
    assert yolo("--").code == 2


@pytest.mark.parametrize("module", ["yolo", "yolo.cli"])
def test_run_as_a_module(yolo_process: Run, module: str) -> None:
    assert yolo_process("-m", module, "--version").out.startswith("yolo 0.")
    assert yolo_process("-m", module, "frobnicate").code == 2


@pytest.mark.parametrize("args", ["--help", "plugins", "plugins --json"])
def test_no_torch_is_imported(args: str) -> None:
    # All that is really installed, on purpose: the plugins of the other packages must stay light too.
    heavy = ("torch", "lightning", "cv2", "numpy", "tensorflow", "yolo.cli.commands.doctor")
    code = (
        f"import sys; from yolo.cli.main import main; main({args.split()!r});"
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_a_closed_pipe_is_quiet(yolo_process: Run) -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'yolo', 'plugins', '--json'],"
        "stdout=subprocess.PIPE, stderr=subprocess.PIPE); p.stdout.close(); print(p.stderr.read().decode())"
    )
    result = yolo_process("-c", code)
    assert result.out.strip() == ""
