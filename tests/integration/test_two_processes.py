"""Two processes on one machine come to the numbers of one."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

YOLO = Path(sys.executable).with_name("yolo")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of torch has no torch.distributed")
def test_metrics_of_two_processes_are_those_of_one(trained_run: Path, synthetic_data: Path, tmp_path: Path) -> None:
    """A network that finds something is trained on for an epoch without moving; every image counts once."""
    options = {
        "data.root": synthetic_data,
        "data.image_size": 96,
        "data.batch_size": 3,
        "data.num_workers": 0,
        "data.mosaic_prob": 0,
        "model.model_config": "v9-t",
        "model.weight_path": trained_run / "checkpoints" / "best.ckpt",
        "model.learning_rate": 1e-9,
        "model.warmup_epochs": 0,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.devices": 2,
        "trainer.strategy": "ddp",
        "trainer.num_sanity_val_steps": 0,
    }

    def yolo(*args: object) -> None:
        run = subprocess.run(
            [YOLO, *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr

    yolo("fit", *(f"--{key}={value}" for key, value in options.items()))
    folder = tmp_path / "runs" / "yolo" / "version_0"
    assert not (tmp_path / "runs" / "yolo" / "version_1").exists()
    with (folder / "results.csv").open() as file:
        logged = list(csv.DictReader(file))[-1]
    protocol = ["--iou", "0.65", "--workers", "0"]  # what validation in training uses
    yolo("validate", "-c", folder / "checkpoints" / "last.ckpt", *protocol, "-o", "one")
    results = json.loads((tmp_path / "one" / "results.json").read_text())
    assert results["images"] == 8
    for name, key in {"mAP": "AP", "mAP50": "AP50", "AR@100": "AR100"}.items():
        assert float(logged[name]) == pytest.approx(max(results["stats"][key], 0), abs=1e-5)
    assert float(logged["AR@100"]) > 0
