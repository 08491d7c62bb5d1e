"""Two processes on one machine come to the numbers of one, and leave the files of one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from yolo.training.commands.validate import validate

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


@pytest.fixture
def odd_data(synthetic_data: Path, tmp_path: Path) -> Path:
    """Fifteen images to train on and seven to validate on, of which one of each has no box; in YOLO layout."""
    root = tmp_path / "odd"
    shutil.copytree(synthetic_data, root)
    for split in ("train", "val"):
        names = sorted(path.stem for path in (root / "images" / split).iterdir())
        (root / "images" / split / f"{names[-1]}.jpg").unlink()
        (root / "labels" / split / f"{names[-1]}.txt").unlink()
        (root / "labels" / split / f"{names[1]}.txt").write_text("")
    return root


def test_two_processes_come_to_the_numbers_of_one(
    trained_run: Path, odd_data: Path, tmp_path: Path, fitted: Callable[..., list[dict[str, Any]]]
) -> None:
    """Seven images for two processes; norm statistics differ between them after every step, and the second is late."""
    options = {
        "data.root": odd_data,
        "data.format": "yolo",
        "data.image_size": 96,
        "data.batch_size": 2,
        "data.num_workers": 0,
        "data.close_mosaic_epochs": 0,
        "data.mosaic_prob": 0,
        "model.model_config": "v9-t",
        "model.weight_path": trained_run / "checkpoints" / "best.ckpt",
        "model.learning_rate": 1e-5,
        "model.warmup_epochs": 0,
        "ema.tau": 2,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.devices": 2,
        "trainer.strategy": "ddp",
        "trainer.num_sanity_val_steps": 0,
    }
    first, second = fitted("two", options, LATE="2")
    folder = tmp_path / "two" / "runs" / "yolo" / "version_0"

    assert first["folder"] == second["folder"] == str(folder)
    assert first["parameters"] == second["parameters"]
    assert first["average"] == second["average"]
    assert of_all_processes(first["evaluation"]) == of_all_processes(second["evaluation"])
    metrics, others = ({k: v for k, v in f["metrics"].items() if "step" not in k} for f in (first, second))
    assert metrics == others  # the epoch's losses too, which are means over both

    assert _files(tmp_path / "two") == {f"runs/yolo/version_0/{name}" for name in _files(trained_run)}
    assert not [path for path in _files(odd_data) if "rank" in path]

    protocol = ["--iou", "0.65", "--workers", "0"]  # what validation in training uses
    last, output = folder / "checkpoints" / "last.ckpt", tmp_path / "one"
    assert validate([*map(str, ("-c", last, *protocol, "-o", output))]) == 0
    alone = json.loads((output / "last_metrics.json").read_text())
    whole = {key: alone[key] for key in first["evaluation"]}
    assert first["evaluation"] == whole | {"protocol": first["evaluation"]["protocol"]}
    assert alone["images"] == 7
    assert alone["stats"]["AP"] > 0


def of_all_processes(evaluation: dict) -> dict:
    """What every process knows of an evaluation: not what needs all detections, which the first one holds."""
    per_class = {name: {key: row[key] for key in ("AP", "AP50", "AP75", "precision", "recall", "f1")}
                 for name, row in evaluation["per_class"].items()}  # fmt: skip
    return {key: evaluation[key] for key in ("stats", "metrics", "operating_point", "images")} | {
        "per_class": per_class
    }


def _files(folder: Path) -> set[str]:
    """All files below a folder but those of single epochs; an event file's name holds the time and the process."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name.split(".tfevents")[0] for name in names if "/epoch_" not in name}
