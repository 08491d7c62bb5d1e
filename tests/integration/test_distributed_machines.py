"""Two "machines": two launchers that know each other by an address of the loopback device only."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed"),
]


def options(data: Path, *, nodes: int, **more: object) -> list[str]:
    found = {
        "data.root": data, "data.format": "yolo", "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "data.mosaic_prob": 0, "model.model_config": "v9-t", "model.warmup_epochs": 0, "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu", "trainer.devices": 1, "trainer.num_nodes": nodes, "trainer.strategy": "ddp",
        "trainer.num_sanity_val_steps": 0, "data.cache_images": "disk", **more,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in found.items()]


def results(folder: Path) -> str:
    return (folder / "runs" / "yolo" / "version_0" / "results.csv").read_text()


@pytest.fixture
def own_data(synthetic_data: Path, tmp_path: Path) -> Path:
    """Data without any cache."""
    shutil.copytree(synthetic_data, tmp_path / "data", ignore=shutil.ignore_patterns(".yolo*"))
    return tmp_path / "data"


@pytest.fixture
def two_on_one(synthetic_data: Path, tmp_path: Path, launch: Callable[..., Any]) -> str:
    """The table of a run of two processes that Lightning starts by itself."""
    folder, data = tmp_path / "one-machine", tmp_path / "copy"
    shutil.copytree(synthetic_data, data, ignore=shutil.ignore_patterns(".yolo*"))
    command = [sys.executable, "-m", "yolo", "fit", *options(data, nodes=1), "--trainer.devices=2"]
    [ended] = launch([(command, {})], folder=folder)
    assert ended.code == 0, ended.err
    return results(folder)


def start(
    launch: Callable[..., Any], tmp_path: Path, commands: Sequence[tuple[Sequence[object], Mapping[str, str]]]
) -> list[Any]:
    """Run one command a machine, each in a folder of its own."""
    for number in range(len(commands)):
        (tmp_path / f"machine-{number}").mkdir()
    wrapped = [
        (["sh", "-c", 'cd "$0" && exec "$@"', tmp_path / f"machine-{number}", *command], environment)
        for number, (command, environment) in enumerate(commands)
    ]
    ended: list[Any] = launch(wrapped, folder=tmp_path / "both", seconds=200)
    for process in ended:
        assert process.code == 0, process.err
    return ended


def test_torchrun_on_two_machines(
    two_on_one: str, own_data: Path, tmp_path: Path, launch: Callable[..., Any], free_port: int
) -> None:
    """The same numbers; files on the first machine only; the image cache, on a disk of both, is made once."""
    commands = [
        (
            [
                Path(sys.executable).with_name("torchrun"), "--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}",
                "--master-addr=127.0.0.1", f"--master-port={free_port}", "-m", "yolo", "fit",
                *options(own_data, nodes=2),
            ],
            {},
        )
        for rank in range(2)
    ]  # fmt: skip
    ended = start(launch, tmp_path, commands)
    assert results(tmp_path / "machine-0") == two_on_one
    assert not list((tmp_path / "machine-1").rglob("*"))
    assert sum("Caching images" in process.out + process.err for process in ended) == 1
    assert sum("The run is in" in process.out for process in ended) == 1


def test_tasks_of_slurm(
    two_on_one: str, own_data: Path, tmp_path: Path, launch: Callable[..., Any], free_port: int
) -> None:
    """What srun sets for two nodes with one task each; Lightning takes rank, size and address from there."""
    common = {
        "SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2", "SLURM_NODELIST": "127.0.0.1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port),
    }  # fmt: skip
    commands = [
        (
            [sys.executable, "-m", "yolo", "fit", *options(own_data, nodes=2)],
            {**common, "SLURM_PROCID": rank, "SLURM_NODEID": rank, "SLURM_LOCALID": "0"},
        )
        for rank in "01"
    ]
    start(launch, tmp_path, commands)
    assert results(tmp_path / "machine-0") == two_on_one
    assert not list((tmp_path / "machine-1").rglob("*"))
