"""`yolo plugins` and `yolo doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yolo.cli import diagnosis
from yolo.cli.output import print_table, track
from yolo.core.plugins import PluginRecord

Run = Callable[..., Any]

HAIL = """
from yolo.core.plugins import AugmentationSpec, CommandSpec, ExportBackendSpec, hookimpl

@hookimpl
def yolo_augmentations():
    yield AugmentationSpec("hail", target="fake_hail:Hail", summary="Hail.", stage="mix")

@hookimpl
def yolo_commands():
    yield CommandSpec("hail-preview", target="fake_hail:preview", summary="Show hail.")
    yield CommandSpec("hail-count", target="fake_hail:count", summary="Count hail.")
"""


@pytest.fixture(autouse=True)
def distributions(install: Callable[..., Path]) -> None:
    install("yolo-hail", HAIL)
    install("yolo-bad", "import no_such_module")


def test_the_table(yolo: Run) -> None:
    result = yolo("plugins")
    assert result.code == 0
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0] == "Plugin Distribution Version Adds Status"
    assert "hail yolo-hail 1.0 augmentation hail; commands hail-preview, hail-count ok" in lines
    assert "bad yolo-bad 1.0 - broken" in lines
    assert "bad (yolo-bad 1.0): ModuleNotFoundError: No module named 'no_such_module'" in result.out
    assert "data yolo-data 0.1.0 - disabled" in lines
    assert "Traceback" not in result.out
    assert "Traceback" in yolo("--debug", "plugins").out


def test_json(yolo: Run) -> None:
    result = yolo("plugins", "--json")
    by_name = {record["name"]: record for record in json.loads(result.out)}
    assert by_name["hail"] == {
        "name": "hail",
        "distribution": "yolo-hail",
        "version": "1.0",
        "module": "fake_yolo_hail",
        "first_party": False,
        "status": "ok",
        "error": None,
        "traceback": None,
        "adds": {
            "augmentations": [{"name": "hail", "target": "fake_hail:Hail", "summary": "Hail.", "stage": "mix"}],
            "commands": [
                {"name": name, "target": f"fake_hail:{target}", "summary": summary, "passthrough": False}
                for name, target, summary in [
                    ("hail-preview", "preview", "Show hail."),
                    ("hail-count", "count", "Count hail."),
                ]
            ],
        },
    }
    assert by_name["bad"]["status"] == "broken"
    assert "no_such_module" in by_name["bad"]["traceback"]
    assert by_name["cli"]["first_party"]


@pytest.mark.parametrize("hook", ["augmentations", "yolo_augmentations", "yolo-augmentations"])
def test_one_hook(yolo: Run, hook: str) -> None:
    result = yolo("plugins", "--hook", hook)
    lines = result.out.splitlines()
    assert lines[0].split() == ["Name", "Distribution", "Version", "Status", "Details", "Summary"]
    assert lines[1].split() == ["hail", "yolo-hail", "1.0", "ok", "stage=mix", "Hail."]
    assert "hail-preview" not in result.out
    records = json.loads(yolo("plugins", "--json", "--hook", hook).out)
    assert [record["adds"] for record in records if record["name"] == "hail"] == [
        {"augmentations": [{"name": "hail", "target": "fake_hail:Hail", "summary": "Hail.", "stage": "mix"}]}
    ]


def test_an_unknown_hook(yolo: Run) -> None:
    result = yolo("plugins", "--hook", "augmentation")
    assert result.code == 2
    assert "Did you mean 'augmentations'" in result.err


def test_no_plugins_and_disabled(yolo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    records = {r["name"]: r["status"] for r in json.loads(yolo("--no-plugins", "plugins", "--json").out)}
    assert (records["hail"], records["bad"], records["cli"]) == ("disabled", "disabled", "ok")
    monkeypatch.setenv("YOLO_NO_PLUGINS", "")
    monkeypatch.setenv("YOLO_DISABLE_PLUGINS", "bad,data,train,export,rain")
    result = yolo("plugins", "--json")
    records = {r["name"]: r["status"] for r in json.loads(result.out)}
    assert (records["hail"], records["bad"], records["cli"]) == ("ok", "disabled", "ok")
    assert result.err == ""


def test_doctor(yolo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = yolo("doctor", "--json")
    assert result.code == 1  # the broken plugin
    findings = {(found["section"], found["name"]): found for found in json.loads(result.out)}
    assert findings["Versions", "python"]["value"].startswith(".".join(map(str, sys.version_info[:3])))
    assert findings["Versions", "torch"]["level"] == "ok"
    assert findings["Devices", "cpu"]["level"] == "ok"
    assert findings["Plugins", "bad"]["level"] == "failed"
    assert "no_such_module" in findings["Plugins", "bad"]["value"]
    assert findings["Plugins", "hail"]["value"] == "ok"
    assert ("Limits", "open files") in findings or sys.platform == "win32"

    monkeypatch.setenv("YOLO_DISABLE_PLUGINS", "bad,hail,data,train,export,rain")
    result = yolo("doctor")
    assert result.code == 0
    assert "disabled" in result.out


def test_doctor_names_a_missing_requirement() -> None:
    record = PluginRecord(name="x", distribution="no-such-distribution", version="1", module="x")
    found = {finding.name: finding for finding in diagnosis.versions([record])}
    assert found["no-such-distribution"].level == "failed"
    assert "pip install" in found["no-such-distribution"].hint


@pytest.mark.parametrize(
    ("limit", "level", "value"),
    [
        (1024, "ok", "1024 (enough for 40 workers), hard limit 4096"),
        (150, "warning", "150 (enough for 6 workers), hard limit 4096"),
        (30, "warning", "30 (enough for 1 worker), hard limit 4096"),
    ],
)
def test_doctor_on_a_low_limit(monkeypatch: pytest.MonkeyPatch, limit: int, level: str, value: str) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, 4096))
    finding = diagnosis.limits()[0]
    assert (finding.level, finding.value) == (level, value)
    assert finding.hint.endswith("ulimit -n 1120") or level == "ok"


def test_doctor_counts_workers_as_training_does() -> None:
    from yolo.data.workers import affordable_workers

    for limit in (1, 24, 25, 256, 999, 1024, 2499, 2500, 2515, 65536):
        assert diagnosis.workers_within(limit) == affordable_workers(10**6, limit)


def test_output_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("Name", "Size"), [("[bold]a", 1), ("b", 22)], title="Things")
    assert list(track([1, 2], "Reading")) == [1, 2]
    captured = capsys.readouterr()
    assert captured.out == "Things\nName     Size\n[bold]a  1\nb        22\n"
    assert captured.err == "Reading: 2 done\n"


def test_output_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(("Name", "Status"), [("[bold]a", "ok"), ("b", "broken")], title="Things")
    out = capsys.readouterr().out
    assert "[bold]a" in out
    assert "─" in out
