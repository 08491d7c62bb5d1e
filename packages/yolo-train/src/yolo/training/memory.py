"""What to do when memory runs out: which setting to lower, and what it is now."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Trainer

from yolo.core.errors import YoloError
from yolo.data.config import DataConfig
from yolo.training.datamodule import YOLODataModule

# What allocators say that raise a plain RuntimeError: of devices, of libraries, and torch's own for the CPU.
_DEVICE = r"(cuda|hip|mps|xpu)\b.*out of memory|(cublas|cudnn|cusolver|cufft)_status_alloc_failed"
_HOST = r"defaultcpuallocator|can't allocate memory|cannot allocate memory|unable to allocate|killed by signal: killed"


class OutOfMemoryError(YoloError):
    """There was not enough memory; the message says what to lower."""


@contextmanager
def memory_hints(trainer: Trainer, datamodule: YOLODataModule) -> Iterator[None]:
    """Turn errors about memory into one line that names the settings to lower, with their present values.

    Args:
        trainer: says precision and accumulation.
        datamodule: says the size of batches.

    Raises:
        OutOfMemoryError: in place of the error of an allocator.
    """
    try:
        yield
    except Exception as error:  # allocators raise several kinds; what is not theirs goes on as it was
        where = _place(error)
        if where is None:
            raise
        hints = _loader_hints(datamodule.loading) if where == "loader" else _step_hints(trainer, datamodule, where)
        raise OutOfMemoryError(
            f"{_SAID[where]} ({_first_line(error)}). Lower one of these: {'; '.join(hints)}"
        ) from error


_SAID = {
    "loader": "Out of memory while images were loaded",
    "validation": "Out of memory in validation",
    "training": "Out of memory in training",
}


def _place(error: BaseException) -> str | None:
    """Where memory ran out: ``loader``, ``validation`` or ``training``; None where the error is another one."""
    text = str(error).lower()
    host = isinstance(error, MemoryError) or re.search(_HOST, text) is not None
    host = host or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    device = isinstance(error, torch.OutOfMemoryError)
    device = device or (isinstance(error, RuntimeError) and re.search(_DEVICE, text) is not None)
    if not (host or device):
        return None
    if "dataloader worker" in text:
        return "loader"
    frames = traceback.extract_tb(error.__traceback__)
    called = {frame.name for frame in frames}
    if called & {"validation_step", "on_validation_epoch_end"}:
        return "validation"
    if called & {"training_step", "backward"}:
        return "training"
    files = [frame.filename.replace("\\", "/") for frame in frames]
    reading = any("/yolo/data/" in name or "/torch/utils/data/" in name for name in files)
    return "loader" if host and reading else "training"


def _step_hints(trainer: Trainer, datamodule: YOLODataModule, where: str) -> list[str]:
    config = datamodule.config
    width, height = config.size
    hints = []
    if config.batch_size > 1:
        half, steps = config.batch_size // 2, trainer.accumulate_grad_batches * 2
        keeps = f", with trainer.accumulate_grad_batches {steps} for steps of the same size" * (where == "training")
        hints.append(f"data.batch_size (now {config.batch_size}; try {half}{keeps})")
    hints.append(f"data.image_size (now {width}x{height}; memory goes with the area)")
    if str(trainer.precision).startswith("32") and trainer.strategy.root_device.type == "cuda":
        hints.append("trainer.precision (now 32; bf16-mixed takes less)")
    hints.append("model.model_config (a smaller network)")
    return hints


def _loader_hints(config: DataConfig) -> list[str]:
    hints = []
    if config.cache_images == "ram":
        hints.append("data.cache_images (now ram; disk reads as needed)")
    if config.num_workers:
        hints.append(f"data.num_workers (now {config.num_workers})")
        hints.append(f"data.prefetch_factor (now {config.prefetch_factor} batches for each worker)")
    hints.append(f"data.batch_size (now {config.batch_size})")
    return hints


def _first_line(error: BaseException) -> str:
    """What the allocator said, without the advice for programmers behind it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if re.search(f"{_DEVICE}|{_HOST}", line.lower())), None)
    text = said or (lines[0] if lines else type(error).__name__)
    text = re.split(r"\.? (?:If reserved but|See documentation|Including non-PyTorch|Of the allocated)", text)[0]
    return text[:240].rstrip(". ")
