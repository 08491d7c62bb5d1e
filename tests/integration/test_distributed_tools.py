"""What is done instead of a training works in two processes as in one."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed"),
]


@pytest.fixture
def fit(synthetic_data: Path, tmp_path: Path, launch: Callable[..., Any]) -> Callable[..., Any]:
    """Run ``yolo fit`` with two processes."""
    settings = {
        "data.root": synthetic_data, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "model.model_config": "v9-t", "trainer.max_epochs": 3, "trainer.accelerator": "cpu", "trainer.devices": 2,
        "trainer.strategy": "ddp", "selftest.enabled": "false",
    }  # fmt: skip

    def run(*more: str) -> Any:
        command = [Path(sys.executable).with_name("yolo"), "fit", *(f"--{key}={settings[key]}" for key in settings)]
        [ended] = launch([([*command, *more], {})], folder=tmp_path / "run")
        return ended

    return run


def test_a_dry_run(fit: Callable[..., Any], tmp_path: Path) -> None:
    ended = fit("--dry-run")
    assert ended.code == 0, ended.err
    assert "Device     2 x CPU" in ended.out
    assert "Steps      12 in all" in ended.out, "16 images, 4 of them a step"
    assert ended.out.count("All is well. Nothing was trained, and nothing was written.") == 1
    assert not list((tmp_path / "run").iterdir())


def test_a_look_for_a_rate(fit: Callable[..., Any], tmp_path: Path) -> None:
    ended = fit("--find-lr", "--find-lr-steps=10", "--find-lr-max=0.01")
    assert ended.code == 0, ended.err
    assert ended.out.count("Suggested") == 1
    assert "steps of 4 images" in ended.out
    with (tmp_path / "run" / "lr-find.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"lr-find.png", "lr-find.csv"}
