"""Whoever runs out of memory is told what to lower."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from yolo.training.memory import OutOfMemoryError, memory_hints
from yolo.training.module import YOLOModule
from yolo.training.trainer_cli import make_cli, run_fit

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB of which 1.20 GiB is free."
    " Including non-PyTorch memory, this process has 22.41 GiB memory in use. If reserved but unallocated memory is"
    " large try setting PYTORCH_CUDA_ALLOC_CONF. See documentation for Memory Management"
)
CPU = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4000000000000 bytes. Error code 12 (Cannot allocate memory)"
)


def options(data: Path, root: Path, **more: object) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 4, "data.num_workers": 0,
        "model.model_config": "v9-t", "model.warmup_epochs": 0,
        "trainer.max_epochs": 1, "trainer.accelerator": "cpu", "trainer.num_sanity_val_steps": 0,
        "trainer.limit_train_batches": 1, "record.enabled": "false", "trainer.logger.init_args.save_dir": root,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in {**settings, **more}.items()]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError(CUDA), "CUDA out of memory. Tried to allocate 2.00 GiB"),
        (RuntimeError(CPU), "you tried to allocate 4000000000000 bytes"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "CUBLAS"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.9 GB)"), "MPS backend"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_in_training(error: Exception, said: str, tmp_path: Path) -> None:
    cli = make_cli(options(tmp_path, tmp_path))

    def training_step() -> None:
        raise error

    with pytest.raises(OutOfMemoryError, match="in training") as caught, memory_hints(cli.trainer, cli.datamodule):
        training_step()
    text = str(caught.value)
    assert said in text
    assert "PYTORCH_CUDA_ALLOC_CONF" not in text
    assert "data.batch_size (now 4; try 2, with trainer.accumulate_grad_batches 2" in text
    assert "data.image_size (now 64x64" in text
    assert "model.model_config" in text
    assert caught.value.__cause__ is error


def test_the_allocator_itself_is_recognised(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> torch.Tensor:
        return torch.empty(1 << 50)

    monkeypatch.setattr(YOLOModule, "forward", fail)
    with pytest.raises(OutOfMemoryError, match=r"Out of memory in training .*allocate"):
        run_fit(options(tiny_data, tmp_path))


def test_in_validation(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr("yolo.training.module.detect", fail)
    with pytest.raises(OutOfMemoryError, match="Out of memory in validation") as caught:
        run_fit(options(tiny_data, tmp_path))
    assert "accumulate_grad_batches" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_while_images_are_read(workers: int, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo.data.dataset import TrainDataset

    def fail(*_: object) -> None:
        raise MemoryError("Unable to allocate 9.00 GiB for an array with shape (50000, 64000, 3)")

    monkeypatch.setattr(TrainDataset, "__getitems__", fail)
    with pytest.raises(OutOfMemoryError, match="Out of memory while images were loaded") as caught:
        run_fit(options(tiny_data, tmp_path, **{"data.num_workers": workers}))
    text = str(caught.value)
    assert "Unable to allocate 9.00 GiB" in text
    assert ("data.num_workers (now 1)" in text) == bool(workers)


def test_the_workers_that_there_are_count_not_those_that_were_asked_for(tmp_path: Path) -> None:
    cli = make_cli(options(tmp_path, tmp_path, **{"data.num_workers": 8}))
    cli.datamodule._affordable = {"num_workers": 2, "prefetch_factor": 3}  # as the limits of the machine left them
    said = r"data\.num_workers \(now 2\); data\.prefetch_factor \(now 3 batches"
    with pytest.raises(OutOfMemoryError, match=said), memory_hints(cli.trainer, cli.datamodule):
        raise RuntimeError("DataLoader worker (pid(s) 4242) is killed by signal: Killed.")


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError(2, "No such file"), KeyError("memory")]
)
def test_other_errors_pass(error: Exception, tmp_path: Path) -> None:
    cli = make_cli(options(tmp_path, tmp_path))
    with pytest.raises(type(error)) as caught, memory_hints(cli.trainer, cli.datamodule):
        raise error
    assert caught.value is error
