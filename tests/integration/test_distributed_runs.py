"""Whole runs of one process and of two, side by side: the same weights, the same files, and a resume across."""

from __future__ import annotations

import re
import shutil
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

YOLO = Path(sys.executable).with_name("yolo")
Fitted = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def few(synthetic_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Make a data set with as many images as asked for; one of three has no box."""

    def make(train: int, val: int) -> Path:
        root = tmp_path / f"few-{train}-{val}"
        shutil.copytree(synthetic_data, root)
        for split, count in (("train", train), ("val", val)):
            for number, path in enumerate(sorted((root / "images" / split).iterdir())):
                label = root / "labels" / split / f"{path.stem}.txt"
                if number >= count:
                    path.unlink()
                    label.unlink()
                elif number % 3 == 2:
                    label.write_text("")
        return root

    return make


def options(data: Path, *, batch: int, devices: int, **more: object) -> dict[str, object]:
    return {
        "data.root": data, "data.format": "yolo", "data.image_size": 64, "data.batch_size": batch,
        "data.num_workers": 0, "data.mosaic_prob": 0, "model.model_config": "v9-t", "model.warmup_epochs": 0,
        "model.learning_rate": 1e-4, "trainer.max_epochs": 2, "trainer.accelerator": "cpu",
        "trainer.devices": devices, "trainer.num_sanity_val_steps": 0,
        **({"trainer.strategy": "ddp"} if devices > 1 else {}), **more,
    }  # fmt: skip


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    path = folder / "runs" / "yolo" / "version_0" / "checkpoints" / f"{name}.ckpt"
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def files(folder: Path) -> set[str]:
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {re.sub(r"\.tfevents.*", "", name) for name in names}


def test_two_processes_train_like_one_with_the_double_batch(
    few: Callable[..., Path], tmp_path: Path, fitted: Fitted
) -> None:
    """Norm layers hold their statistics, as those of a part of a batch are not those of the whole. In float32.

    A third of the images have no box, so that with one image a process often has no box at all.
    """
    data, held = few(6, 3), {"model.freeze_layers": '["*.bn.*"]', "trainer.max_epochs": 3}
    [alone] = fitted("one", options(data, batch=2, devices=1, **held))
    first, second = fitted("two", options(data, batch=1, devices=2, **held))
    assert first["parameters"] == second["parameters"] and first["average"] == second["average"]
    start = tmp_path / "start"
    fitted("start", options(data, batch=2, devices=1, **{**held, "model.learning_rate": 1e-12}))
    moved = largest_difference(weights(start), weights(tmp_path / "one"))
    apart = largest_difference(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert moved > 1e-3
    assert apart < 1e-3 * moved
    for term in ("loss", "box", "cls", "dfl"):
        name = f"train/{term}_epoch"
        assert first["metrics"][name] == second["metrics"][name]
        assert first["metrics"][name] == pytest.approx(alone["metrics"][name], rel=1e-4)
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_processes(
    before: int, after: int, few: Callable[..., Path], tmp_path: Path, fitted: Fitted
) -> None:
    """At the end of an epoch, with the same batch altogether, the other number comes to the same weights."""
    data, held = few(6, 3), {"model.freeze_layers": '["*.bn.*"]', "model.lr_min_factor": 1}  # a constant rate
    fitted("whole", options(data, batch=2, devices=1, **held))
    batches = {1: 2, 2: 1}
    fitted("parts", options(data, batch=batches[before], devices=before, **held, **{"trainer.max_epochs": 1}))
    last = tmp_path / "parts" / "runs" / "yolo" / "version_0" / "checkpoints" / "last.ckpt"
    ends = fitted("rest", options(data, batch=batches[after], devices=after, **held, ckpt_path=last))
    assert {end["folder"] for end in ends} == {str(last.parent.parent)}
    assert not (tmp_path / "rest" / "runs").exists()
    assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / "parts")) < 1e-5


@pytest.mark.parametrize(("train", "val", "batch"), [(1, 1, 2), (3, 1, 4), (5, 3, 2)])
def test_fewer_images_than_processes_and_batches_need(
    train: int, val: int, batch: int, few: Callable[..., Path], fitted: Fitted
) -> None:
    first, second = fitted("tiny", options(few(train, val), batch=batch, devices=2))
    assert first["evaluation"] == second["evaluation"]
    assert first["evaluation"]["images"] == val
    assert first["average"] == second["average"]


@pytest.mark.parametrize("module", ["yolo", "yolo.cli"])
def test_the_second_process_is_started_the_way_the_first_was(
    module: str, few: Callable[..., Path], tmp_path: Path, launch: Callable[..., Any]
) -> None:
    """`yolo fit` itself is what the tests of errors start."""
    arguments = [f"--{key}={value}" for key, value in options(few(2, 1), batch=1, devices=2).items()]
    command = [sys.executable, "-m", module, "fit", *arguments, "--trainer.max_epochs=1"]
    [ended] = launch([(command, {})], folder=tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "1 validation images" in ended.out and ended.out.count("The run is in") == 1


def test_synchronised_norms_are_refused_on_a_cpu(
    few: Callable[..., Path], tmp_path: Path, launch: Callable[..., Any]
) -> None:
    arguments = [f"--{key}={value}" for key, value in options(few(2, 1), batch=1, devices=2).items()]
    [ended] = launch([([YOLO, "fit", *arguments, "--trainer.sync_batchnorm=true"], {})], folder=tmp_path / "run")
    assert ended.code == 2
    assert ended.err.count("trainer.sync_batchnorm: torch synchronises norm layers on GPUs only") == 1
