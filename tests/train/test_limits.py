"""Workers are lowered, told once, before the system runs out of open files or shared memory."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from yolo.core.models import build_model
from yolo.core.weights.bundle import ModelBundle
from yolo.data.config import DataConfig
from yolo.training import limits
from yolo.training.datamodule import YOLODataModule
from yolo.training.limits import batch_bytes, in_flight_bytes, settle_loading

MIB = 1 << 20


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo.data.workers._cores", lambda: 1000)


@pytest.fixture
def open_files(monkeypatch: pytest.MonkeyPatch):
    """Pretend limits on open files, as [soft, hard]."""
    values = [1024, 1024]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: tuple(values))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: values.__setitem__(slice(None), list(pair)))
    return values


@pytest.fixture
def shared_memory(monkeypatch: pytest.MonkeyPatch):
    """Pretend an amount of free shared memory, bytes."""
    free: list[int | None] = [None]
    monkeypatch.setattr(limits, "free_shared_memory", lambda: free[0])
    return free


def config(**values: int) -> DataConfig:
    return DataConfig(**{"num_workers": 128, **values})


def test_a_low_hard_limit_lowers_the_workers_of_both_loaders_once(open_files, shared_memory, caplog) -> None:
    with caplog.at_level(logging.INFO):
        settled = settle_loading(config(), [1000, 100])
    assert (settled.num_workers, settled.prefetch_factor) == (40, 4)
    assert [record.getMessage() for record in caplog.records] == [
        "⚠️ Reducing num_workers: 128 → 40 (ulimit -n = 1024).\n   To use 128 workers, run: ulimit -n 2920"
    ]


def test_a_low_soft_limit_is_raised_instead(open_files, shared_memory, caplog) -> None:
    open_files[1] = 100_000
    with caplog.at_level(logging.INFO):
        assert settle_loading(config(), [1000, 100]).num_workers == 128
    assert 2920 <= open_files[0] < 20_000 and open_files[1] == 100_000
    assert [r.getMessage() for r in caplog.records] == [
        f"The limit on open files was raised from 1024 to {open_files[0]}, for 128 workers"
    ]


def test_a_limit_is_raised_in_part_and_never_lowered(open_files, shared_memory, caplog) -> None:
    open_files[1] = 2000
    assert settle_loading(config(), [1000]).num_workers == 80  # 2000 / 25
    assert open_files == [2000, 2000]
    open_files[:] = [90_000, 100_000]
    assert settle_loading(config(), [1000]).num_workers == 128
    assert open_files == [90_000, 100_000]


def test_nothing_is_said_where_all_is_well_or_by_the_other_processes(open_files, shared_memory, caplog) -> None:
    with caplog.at_level(logging.INFO):
        assert settle_loading(config(num_workers=8), [10, 10]).num_workers == 8
        assert settle_loading(config(num_workers=0), [10, 10]).num_workers == 0
        shared_memory[0] = MIB
        assert settle_loading(config(), [1000, 100], tell=False).num_workers == 0
    assert not caplog.records


@pytest.mark.skipif(sys.platform != "linux", reason="limits are raised through the shell")
def test_a_real_process_raises_its_own_limit() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))\n"
        "import yolo.data.workers as workers; workers._cores = lambda: 99\n"
        "from yolo.data.config import DataConfig; from yolo.training.limits import settle_loading\n"
        "print(settle_loading(DataConfig(num_workers=16), [9]).num_workers, resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split()[0] == "16", done.stderr
    assert int(done.stdout.split("(")[1].split(",")[0]) >= 1240


def test_what_waits_in_shared_memory(shared_memory) -> None:
    one = batch_bytes(config(batch_size=16))
    assert 16 * 3 * 640 * 640 < one < 1.01 * 16 * 3 * 640 * 640
    assert in_flight_bytes(config(num_workers=8), [1000, 1000]) == 64 * one
    assert in_flight_bytes(config(num_workers=8), [1000, 3]) == 35 * one, "a short split has no more than its batches"
    assert in_flight_bytes(config(num_workers=0), [1000]) == 0


@pytest.mark.parametrize(
    ("free", "ranks", "expected"),
    [
        (8 << 30, 1, (8, 4)),
        (1000 * MIB, 1, (8, 2)),  # 64 batches of 18.8 MiB wait; shorter queues come first
        (1000 * MIB, 2, (5, 2)),  # two processes share it
        (64 * MIB, 1, (1, 1)),  # what a container has by default
        (20 * MIB, 1, (0, 4)),
    ],
)
def test_little_shared_memory_shortens_queues_then_lowers_workers(
    open_files, shared_memory, caplog, free: int, ranks: int, expected: tuple[int, int]
) -> None:
    shared_memory[0] = free
    with caplog.at_level(logging.INFO):
        settled = settle_loading(config(num_workers=8, batch_size=16), [1000, 1000], ranks=ranks)
    assert (settled.num_workers, settled.prefetch_factor) == expected
    assert in_flight_bytes(settled, [1000, 1000]) * ranks < free
    told = [record.getMessage() for record in caplog.records]
    if expected == (8, 4):
        assert not told
        return
    (line,) = told
    assert "\n" not in line
    for part in ("shared memory", "/dev/shm", "--shm-size=2g" if ranks == 1 else "--shm-size=3g"):
        assert part in line
    for key, before, after in (("num_workers", 8, expected[0]), ("prefetch_factor", 4, expected[1])):
        assert (f"{key} {before} → {after}" in line) == (before != after)


def test_both_loaders_of_a_run_are_built_with_it(
    tiny_data: Path, open_files, shared_memory, caplog: pytest.LogCaptureFixture
) -> None:
    from lightning.pytorch import Trainer

    shared_memory[0] = 4 * MIB
    module = YOLODataModule(root=str(tiny_data), batch_size=2, image_size=640, num_workers=3)
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1)
    with caplog.at_level(logging.INFO, "yolo"):
        module.setup("fit")
        module.setup("fit")
    assert module.config.num_workers == 3, "what was asked for is what is recorded"
    assert module.train_dataloader().num_workers == module.val_dataloader().num_workers == 0
    assert caplog.text.count("Reducing num_workers 3 → 0") == 1


def test_validate_looks_at_the_limits_too(
    tiny_data: Path, tmp_path: Path, shared_memory, caplog: pytest.LogCaptureFixture
) -> None:
    from yolo.training.commands.validate import validate

    network = build_model("v9-t", 4)
    names = ("circle", "square", "triangle", "star")
    bundle = ModelBundle(network.spec.to_dict(), network.state_dict(), class_names=names, image_size=(64, 64))
    torch.save({"yolo": bundle.to_dict()}, tmp_path / "fresh.ckpt")
    shared_memory[0] = 1000
    options = ["--checkpoint", str(tmp_path / "fresh.ckpt"), "--no-json", "--no-plots", "--workers=2", "--device=cpu"]
    with caplog.at_level(logging.INFO, "yolo"):
        assert validate([*options, "--data.root", str(tiny_data)]) == 0
    assert caplog.text.count("Reducing num_workers 2 → 0") == 1


def test_the_folder_that_is_measured_is_the_one_that_batches_go_through() -> None:
    if not limits.SHARED_MEMORY.is_dir():
        pytest.skip("this system has no /dev/shm")
    assert (limits.free_shared_memory() or 0) > 0
    storage = torch.UntypedStorage._new_shared(MIB)
    file = storage._share_fd_cpu_()[0]
    assert os.fstat(file).st_dev == limits.SHARED_MEMORY.stat().st_dev
