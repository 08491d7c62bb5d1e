"""`yolo doctor --self-test`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from yolo.core.selftest import is_known, run

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_HOME", str(tmp_path / "home"))


def test_a_device_that_computes_well_is_reported_and_remembered(yolo: Run) -> None:
    result = yolo("doctor", "--self-test", "--device", "cpu", "--precision", "bf16-mixed", "--json")
    assert result.code == 0, result.err
    found = [finding for finding in json.loads(result.out) if finding["section"] == "Self-test"]
    assert [finding["name"] for finding in found] == ["cpu bf16-mixed", "cpu bf16-mixed channels_last"]
    assert all("comparisons, errors up to " in finding["value"] for finding in found)
    assert is_known("cpu", "bf16-mixed")
    assert is_known("cpu", "bf16-mixed", channels_last=True)
    assert not is_known("cpu", "16-mixed")


def test_one_that_does_not_ends_with_1_and_names_the_part(yolo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(boxes: torch.Tensor, scores: torch.Tensor, **rules: float) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(run, "non_max_suppression", broken)
    result = yolo("doctor", "--self-test", "--device", "cpu", "--precision", "32-true")
    assert result.code == 1
    assert "failed: cpu 32-true nms: nms of fixed boxes: RuntimeError: no kernel image is available. Try " in result.out
    assert not is_known("cpu", "32-true")


def test_without_the_flag_nothing_is_computed(yolo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo.core.selftest.self_test", lambda *_, **__: pytest.fail("it was run"))
    assert "Self-test" not in yolo("doctor").out
    assert yolo("doctor", "--device", "cpu").code == 2
    assert yolo("doctor", "--self-test", "--device", "nonsense").code == 2
