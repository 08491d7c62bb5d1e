"""Real training steps, measured in a process of their own: Lightning's trainer with our module, averages and guard."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, IterableDataset

from yolo.core.errors import YoloError
from yolo.data.config import DataConfig
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader
from yolo.data.types import Batch, Sample
from yolo.training.callbacks import EMACallback, NonFiniteGuard
from yolo.training.datamodule import YOLODataModule
from yolo.training.memory import OutOfMemoryError, memory_hints
from yolo.training.module import YOLOModule
from yolo.training.tuning.clock import Rate, StepClock
from yolo.training.tuning.samples import filled_batch

_ENDLESS = 1_000_000_000
_DIFFERENT_BATCHES = 4


@dataclass(frozen=True, kw_only=True)
class StepJob:
    """Which steps to measure.

    Attributes:
        model: fields of :class:`~yolo.training.config.ModelConfig`.
        data: the ``data:`` section, without anything secret.
        trainer: arguments of Lightning's trainer that matter for a step: precision, accelerator, clipping.
        ema: arguments of the averaging callback.
        guard: arguments of the guard.
        class_names: of the data.
        samples: what batches are filled with.
        live: labels and images, when real batches are to be loaded instead.
        seconds: to measure.
        share: of an accelerator's memory that may be taken, other programs' included.
    """

    model: Mapping[str, Any]
    data: DataConfig
    trainer: Mapping[str, Any]
    ema: Mapping[str, Any] = field(default_factory=dict)
    guard: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    live: tuple[LabelTable, ImageLoader] | None = None
    seconds: float = 3.0
    share: float = 0.9


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """What was measured.

    Attributes:
        rate: images a second; None where not even the first steps fitted into memory.
        device: such as ``cpu`` or ``cuda:0``.
        memory: most bytes in use: of the accelerator, other programs' included; on a CPU, of the process.
        capacity: bytes of the accelerator's memory; None on a CPU.
        waiting: share of the time that was spent waiting for batches.
        transfer: seconds to bring a batch to the accelerator; None on a CPU.
        retries: how often the allocator had to give back what it kept, which takes time.
    """

    rate: Rate | None
    device: str
    memory: int | None = None
    capacity: int | None = None
    waiting: float = 0.0
    transfer: float | None = None
    retries: int = 0


def measure_steps(job: StepJob) -> StepFigures:
    """Measure steps in this process; nothing is written.

    Args:
        job: what to do.

    Raises:
        YoloError: the settings do not work.
    """
    _be_quiet()
    torch.manual_seed(0)
    clock = StepClock(job.seconds)
    data = LiveData(job) if job.live else PoolData(job)
    callbacks = [EMACallback(**job.ema), NonFiniteGuard(**{**job.guard, "most_files": 0}), clock]
    trainer = Trainer(**_trainer_arguments(job), callbacks=callbacks)
    device = trainer.strategy.root_device
    before = _limit(device, job.share)
    module = YOLOModule(**job.model)
    try:
        with memory_hints(trainer, data):
            trainer.fit(module, datamodule=data)
    except OutOfMemoryError:
        clock.rates.clear()
    if not clock.rates:
        return StepFigures(rate=None, device=str(device))
    memory, capacity, retries = _memory(device, before)
    return StepFigures(
        rate=Rate.of(clock.rates),
        device=str(device),
        memory=memory,
        capacity=capacity,
        waiting=clock.waiting / clock.measured,
        transfer=_transfer(job, device),
        retries=retries,
    )


class PoolData(YOLODataModule):
    """Gives the same few batches again and again.

    Args:
        job: says what is in them.
    """

    def __init__(self, job: StepJob) -> None:
        super().__init__(**vars(job.data))
        self.job = job

    def setup(self, stage: str) -> None:
        """Read nothing, and build no cache."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.job.class_names

    def optimizer_steps_per_epoch(self) -> int:
        """Return any number: the rate is of no interest."""
        return 1000

    def train_dataloader(self) -> DataLoader[Any]:
        """Return a loader of finished batches."""
        size = self.config.batch_size
        most = min(_DIFFERENT_BATCHES, -(-len(self.job.samples) // size))
        batches = [filled_batch(self.job.samples, size, number) for number in range(most)]
        if torch.cuda.is_available() and self.config.pin_memory:
            batches = [batch.pin_memory() for batch in batches]
        return DataLoader(_Repeated(batches), batch_size=None)


class LiveData(PoolData):
    """Loads real batches as a training does, but builds no cache."""

    def __init__(self, job: StepJob) -> None:
        super().__init__(job)
        assert job.live is not None
        self._labels["train"], self._images = job.live

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of a training."""
        return YOLODataModule.train_dataloader(self)


class _Repeated(IterableDataset[Batch]):
    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from self.batches


def _trainer_arguments(job: StepJob) -> dict[str, Any]:
    fixed = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "max_epochs": -1,
        "max_steps": _ENDLESS,
    }
    return {**job.trainer, **fixed}


def _be_quiet() -> None:
    """Leave out what Lightning says at the start of every training; this one is none."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("yolo").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def _limit(device: torch.device, share: float) -> int:
    """Let no more of an accelerator's memory be taken than a share, and return what was taken before."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    taken = total - free
    if taken >= share * total:
        raise YoloError(f"{device}: other programs have taken {taken / total:.0%} of its memory already")
    torch.cuda.set_per_process_memory_fraction(share - taken / total, device)
    return taken


def _memory(device: torch.device, before: int) -> tuple[int | None, int | None, int]:
    """Most bytes in use, bytes that there are, and retries of the allocator."""
    if device.type == "cuda":
        retries = int(torch.cuda.memory_stats(device).get("num_alloc_retries", 0))
        return before + torch.cuda.max_memory_reserved(device), torch.cuda.mem_get_info(device)[1], retries
    return peak_resident_bytes(), None, 0


def peak_resident_bytes() -> int | None:
    """Most memory that this process ever held, bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _transfer(job: StepJob, device: torch.device, rounds: int = 5) -> float | None:
    if device.type != "cuda" or not job.samples:
        return None
    batch = filled_batch(job.samples, job.data.batch_size)
    batch = batch.pin_memory() if job.data.pin_memory else batch
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        batch.to(device, non_blocking=True)
        torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2]


def without_secrets(config: DataConfig) -> DataConfig:
    """Return the settings as another process may have them: what reads the images is sent on its own."""
    return replace(config, encryption_key=None, image_loader=None)
