"""How fast a detector is, picture by picture: its network, and all the way from a decoded picture to boxes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.cli.output import note, print_table
from yolo.core.letterbox import letterbox
from yolo.data.collate import collate
from yolo.data.types import Batch, Sample, Targets
from yolo.training.metrics import Protocol
from yolo.training.metrics.detect import select
from yolo.training.validation.subject import Predict, Subject

STAGES = ("preprocess", "network", "postprocess", "end to end")
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Latency:
    """Time of one picture, milliseconds: mean and percentiles over the runs."""

    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: NDArray[np.float64]) -> Latency:
        """Summarise the runs."""
        p50, p95, p99 = np.percentile(seconds * 1e3, [50, 95, 99])
        return cls(float(seconds.mean() * 1e3), float(p50), float(p95), float(p99))

    @property
    def throughput(self) -> float:
        """Pictures per second, one after the other."""
        return 1e3 / self.mean if self.mean else float("inf")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What was measured, and how.

    Attributes:
        latency: by stage. ``preprocess``: letterbox, and the way to the device; ``network``: from pixels to boxes and
            scores of all anchors; ``postprocess``: NMS, and the way back to pixels of the picture; ``end to end``: all
            three. Reading and decoding a file is in none.
        warmup: runs before, which do not count.
        runs: that count.
        batch_size: pictures per run.
        image_size: (width, height), pixels.
        pictures: different ones that the runs went through.
        confidence: that NMS began at; more candidates take longer.
        device: where the network ran.
        threads: that it computed with; None where the runtime decides.
        peak_memory: most bytes in use during the runs.
        memory_before: bytes in use before them, with the network loaded.
        memory_of: ``device``: bytes of its tensors; ``process``: all that is resident, libraries included.
        bytes: of the file.
        parameters: None where the file does not tell.
    """

    latency: dict[str, Latency]
    warmup: int
    runs: int
    batch_size: int
    image_size: tuple[int, int]
    pictures: int
    confidence: float
    device: str
    threads: int | None
    peak_memory: int
    memory_before: int
    memory_of: str
    bytes: int
    parameters: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; latencies in milliseconds, throughput in pictures per second."""
        latency = {stage: {**asdict(found), "throughput": found.throughput} for stage, found in self.latency.items()}
        return {**asdict(self), "latency": latency}


def run_benchmark(
    subject: Subject,
    pictures: Sequence[NDArray[np.uint8]],
    protocol: Protocol,
    *,
    warmup: int = 10,
    runs: int = 100,
) -> Benchmark:
    """Time single pictures, one after the other; the clock is read when the device has finished.

    Args:
        subject: the detector; it is measured as it is deployed, with fused layers.
        pictures: at least one, uint8 ``[H, W, 3]`` RGB; the runs go round.
        protocol: thresholds of NMS, and the size.
        warmup: runs that do not count.
        runs: that count.
    """
    note(f"Benchmark: {warmup} + {runs} pictures, one at a time")
    predict = subject.deploy()
    memory = _Memory(subject.device)
    for run in range(warmup):
        _time(subject, predict, pictures[run % len(pictures)], protocol)
    moments = np.array(
        [_time(subject, predict, pictures[run % len(pictures)], protocol) for run in range(runs)], np.float64
    )
    stages = np.concatenate([np.diff(moments, axis=1), moments[:, -1:] - moments[:, :1]], axis=1)
    return Benchmark(
        latency={stage: Latency.of(stages[:, index]) for index, stage in enumerate(STAGES)},
        warmup=warmup,
        runs=runs,
        batch_size=1,
        image_size=protocol.size,
        pictures=min(len(pictures), runs),
        confidence=protocol.confidence,
        device=subject.device_name,
        threads=subject.threads,
        peak_memory=memory.peak(),
        memory_before=memory.before,
        memory_of=memory.kind,
        bytes=subject.bytes,
        parameters=subject.parameters,
    )


def print_benchmark(benchmark: Benchmark) -> None:
    """Print the table, under a title that says how it was measured."""
    width, height = benchmark.image_size
    count = benchmark.threads
    threads = "threads as the runtime likes" if count is None else f"{count} thread{'' if count == 1 else 's'}"
    where = benchmark.device if benchmark.memory_of == "device" else f"{benchmark.device}, {threads}"
    title = (
        f"BENCHMARK  {where}, batch {benchmark.batch_size}, {width}x{height}, {benchmark.runs} runs after "
        f"{benchmark.warmup} to warm up, NMS from confidence {benchmark.confidence:g}"
    )
    rows = [
        [stage, *(f"{value:.2f}" for value in (found.mean, found.p50, found.p95, found.p99)), f"{found.throughput:.1f}"]
        for stage, found in benchmark.latency.items()
    ]
    print_table(["stage", "mean ms", "p50 ms", "p95 ms", "p99 ms", "images/s"], rows, title=title)
    parameters = "-" if benchmark.parameters is None else f"{benchmark.parameters / 1e6:.2f} M"
    rise = max(benchmark.peak_memory - benchmark.memory_before, 0)
    sizes = [f"{value / _MEGABYTE:.1f} MB" for value in (benchmark.peak_memory, rise, benchmark.bytes)]
    columns = [f"peak memory of the {benchmark.memory_of}", "of that for the runs", "size on disk", "parameters"]
    print_table(columns, [[*sizes, parameters]])


def _time(subject: Subject, predict: Predict, picture: NDArray[np.uint8], protocol: Protocol) -> list[float]:
    """Return the moments at which the first stage began and each stage ended, seconds."""
    device = subject.device
    moments = [_now(device)]
    batch = _prepare(picture, protocol.size).to(device)
    moments.append(_now(device))
    decoded = predict(batch.images)
    moments.append(_now(device))
    select(decoded, batch, protocol)
    moments.append(_now(device))
    return moments


def _prepare(picture: NDArray[np.uint8], size: tuple[int, int]) -> Batch:
    canvas, geometry = letterbox(picture, size)
    return collate([Sample(canvas, Targets.empty(), 0, geometry.source, geometry.matrix)])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


class _Memory:
    """The most memory in use since it was made, bytes: of a CUDA device, else of the process.

    Attributes:
        kind: ``device`` or ``process``.
        before: in use when it was made.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.kind = "device" if device.type == "cuda" else "process"
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = int(torch.cuda.memory_allocated(device))
        else:
            _forget_peak()
            self.before = _of_process("VmRSS")

    def peak(self) -> int:
        """Return the most so far."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return _of_process("VmHWM")


def _forget_peak() -> None:
    """Let Linux count the peak of this process anew; elsewhere it stays that of its whole life."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _of_process(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
    except (OSError, StopIteration):  # another system, which tells the peak only
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
