"""`yolo validate --benchmark`: what is timed, and what is said about it. No test looks at how long anything took."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo.cli.main import main
from yolo.training.metrics import Protocol
from yolo.training.validation import benchmark as module
from yolo.training.validation.benchmark import Latency, print_benchmark, run_benchmark
from yolo.training.validation.subject import open_subject

PROTOCOL = Protocol(0.25, 0.6, 300, (96, 96))
PICTURES = [np.full((48, 64, 3), value, np.uint8) for value in (0, 255)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes on by 1, 2, 3, 0, 1, 2, 3, 0 ... ms whenever it is read; returns what was read."""
    read: list[float] = []

    def now(device: torch.device) -> float:
        read.append((read[-1] if read else 0.0) + len(read) % 4 / 1e3)
        return read[-1]

    monkeypatch.setattr(module, "_now", now)
    return read


def test_stages_add_up_and_warming_up_does_not_count(
    small_checkpoint: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_benchmark(open_subject(small_checkpoint), PICTURES, PROTOCOL, warmup=2, runs=5)
    assert len(clock) == 7 * 4
    means = {stage: latency.mean for stage, latency in found.latency.items()}
    assert means == pytest.approx({"preprocess": 1, "network": 2, "postprocess": 3, "end to end": 6})
    assert found.latency["end to end"].throughput == pytest.approx(1000 / 6)
    assert (found.warmup, found.runs, found.batch_size, found.pictures) == (2, 5, 1, 2)
    assert (found.device, found.threads) == ("cpu", torch.get_num_threads())
    assert found.bytes == small_checkpoint.stat().st_size and 50_000 < (found.parameters or 0) < 56_000
    assert found.memory_of == "process" and found.peak_memory > found.bytes
    print_benchmark(found)
    said = capsys.readouterr().out
    assert "batch 1, 96x96, 5 runs after 2 to warm up, NMS from confidence 0.25" in said
    row = next(line for line in said.splitlines() if line.startswith("end to end"))
    assert row.split()[3:] == ["6.00", "6.00", "6.00", "6.00", "166.7"]


@pytest.mark.parametrize(
    ("threads", "words"), [(1, "cpu, 1 thread,"), (2, "cpu, 2 threads,"), (None, "as the runtime")]
)
def test_the_title_says_where_it_was_measured(
    small_checkpoint: Path, clock: list[float], threads: int | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = replace(open_subject(small_checkpoint), threads=threads)
    print_benchmark(run_benchmark(subject, PICTURES, PROTOCOL, warmup=0, runs=1))
    assert words in capsys.readouterr().out.splitlines()[0]


def test_percentiles() -> None:
    latency = Latency.of(np.arange(101) / 1e3)
    assert (latency.mean, latency.p50, latency.p95, latency.p99) == pytest.approx((50, 50, 95, 99))


def test_each_run_is_one_picture_in_turn(small_checkpoint: Path) -> None:
    """What is timed is the fused network, on letterboxed pictures."""
    subject = open_subject(small_checkpoint)
    seen: list[torch.Tensor] = []
    deployed = subject.deploy()

    def predict(images: torch.Tensor):
        seen.append(images)
        return deployed(images)

    run_benchmark(replace(subject, deploy=lambda: predict), PICTURES, PROTOCOL, warmup=0, runs=3)
    assert [tuple(images.shape) for images in seen] == [(1, 3, 96, 96)] * 3
    assert [int(images[0, 0, 48, 48]) for images in seen] == [0, 255, 0]
    assert int(seen[0][0, 0, 0, 0]) == 114
    one, other = deployed(seen[0]), subject.predict(seen[0])
    assert torch.allclose(one.boxes, other.boxes, atol=1e-3) and torch.allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_clock_is_read_when_the_device_has_finished(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda which: waited.append(str(which)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    module._now(torch.device(device))
    assert waited == [device]
    module._now(torch.device("cpu"))
    assert waited == [device]


def test_the_command_measures_both_and_stores_it(
    small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--workers=0", "--no-plots", "--num-images=2", "--benchmark", "--benchmark-runs=3", "--conf-prod=0.3"]
    command = ["validate", "-c", str(small_checkpoint), *options, "--benchmark-warmup=1", "-o", str(tmp_path)]
    assert main(command) == 0
    stored = json.loads((tmp_path / "best_metrics.json").read_text())["benchmark"]
    assert set(stored["latency"]) == {"preprocess", "network", "postprocess", "end to end"}
    assert set(stored["latency"]["network"]) == {"mean", "p50", "p95", "p99", "throughput"}
    assert (stored["warmup"], stored["runs"], stored["pictures"], stored["confidence"]) == (1, 3, 2, 0.3)
    assert stored["image_size"] == [96, 96]
    said = capsys.readouterr().out
    assert "BENCHMARK" in said and "size on disk" in said
