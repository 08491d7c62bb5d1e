"""Which batch sizes are tried and which is suggested; and that what is tried cannot harm the process that tries it."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time

import pytest

from yolo.core.device import pick_device
from yolo.training.tuning.clock import Rate
from yolo.training.tuning.isolated import resident_bytes, run_isolated
from yolo.training.tuning.sizes import Trial, advise, search


def trial(batch: int, rate: float, spread: float = 0.0, **more: object) -> Trial:
    return Trial(batch, rate=Rate(rate, spread, 5), **more)


@pytest.mark.parametrize(("room", "found"), [(37, 36), (1, 1), (2, 2), (3, 3), (64, 64), (500, 480), (7, 7)])
def test_memory_is_filled_to_an_eighth(room: int, found: int) -> None:
    asked = []

    def measure(size: int) -> Trial:
        asked.append(size)
        fits = size <= room
        return trial(size, 100.0, accelerated=True) if fits else Trial(size, ending="memory", accelerated=True)

    trials = search(measure, wanted=16, largest=1024)
    assert max(one.batch for one in trials if one.rate) == found
    assert found <= room < found + max(1, found // 7) + 1, "and no more than an eighth is left"
    assert [one.batch for one in trials] == sorted(asked), "each size once, in order"
    assert len(asked) == len(set(asked)) <= 15


def test_without_an_accelerator_it_ends_where_doubling_gains_nothing() -> None:
    speeds = {1: 5.0, 2: 9.0, 4: 10.0, 8: 10.1, 16: 10.1, 32: 10.2}
    trials = search(lambda size: trial(size, speeds[size]), wanted=4, largest=256)
    assert [one.batch for one in trials] == [1, 2, 4, 8, 16]
    trials = search(lambda size: trial(size, speeds[size], accelerated=True), wanted=4, largest=32)
    assert [one.batch for one in trials] == [1, 2, 4, 8, 16, 32], "an accelerator's memory is filled"


def test_the_wanted_size_is_tried_and_the_largest_is_kept() -> None:
    assert [one.batch for one in search(lambda size: trial(size, size), wanted=24, largest=40)] == [
        1,
        2,
        4,
        8,
        16,
        24,
        32,
    ]
    assert [one.batch for one in search(lambda size: trial(size, size), wanted=64, largest=5)] == [1, 2, 4, 5]


def test_it_ends_with_the_time() -> None:
    def measure(size: int) -> Trial:
        return trial(size, 1.0) if size < 4 else Trial(size, ending="time", note="--limit")

    assert [one.batch for one in search(measure, wanted=64, largest=64)] == [1, 2, 4]


def test_the_advice_keeps_the_step() -> None:
    trials = [trial(1, 10), trial(2, 19), trial(4, 30), trial(8, 31), trial(16, 29.9), trial(24, 20), trial(32, 40)]
    advice = advise(trials, effective=16)
    assert (advice.batch, advice.accumulate, advice.largest) == (16, 1, None)
    assert (advice.fastest, advice.gain) == (32, pytest.approx(40 / 29.9))
    advice = advise(trials, effective=24)
    assert (advice.batch, advice.accumulate) == (8, 3), "16 does not divide 24, and 24 is slow"
    advice = advise([*trials, Trial(64, ending="memory")], effective=64)
    assert (advice.batch, advice.accumulate, advice.largest, advice.fastest) == (32, 2, 32, None)
    assert "  --data.batch_size 32 --trainer.accumulate_grad_batches 2" in advice.lines()


def test_noise_does_not_decide() -> None:
    """16 % slower is slower, unless measurements of one size differ by as much."""
    assert advise([trial(4, 30), trial(8, 25)], effective=8).batch == 4
    assert advise([trial(4, 30, 0.18), trial(8, 25)], effective=8).batch == 8
    assert advise([trial(4, 30, 0.9), trial(8, 20)], effective=8).batch == 4, "there are limits"
    assert advise([trial(4, 30), trial(8, 36)], effective=4).fastest == 8
    assert advise([trial(4, 30), trial(8, 36, 0.3)], effective=4).fastest is None
    single = Trial(8, rate=Rate(25, None, 1))
    assert advise([trial(4, 30), single], effective=8).batch == 8, "nobody knows how far one measurement is off"


def test_a_rate_knows_its_spread() -> None:
    assert Rate.of([4.0]).spread is None and Rate.of([4.0]).margin == "-"
    assert Rate.of([9.0, 11.0]) == Rate(10.0, 0.1, 2)
    many = Rate.of([10.0] * 9 + [1000.0])
    assert (many.median, many.spread) == (10.0, 0.0), "one outlier is none of our business"


class TestIsolation:
    def test_an_answer(self) -> None:
        outcome = run_isolated(sorted, [3, 1, 2], seconds=120)
        assert (outcome.ending, outcome.value) == ("done", [1, 2, 3])

    def test_errors(self) -> None:
        outcome = run_isolated(int, "x", seconds=120)
        assert (outcome.ending, outcome.expected) == ("error", False) and outcome.text.startswith("ValueError: invalid")
        outcome = run_isolated(pick_device, "gramophone", seconds=120)
        assert (outcome.ending, outcome.expected) == ("error", True) and "gramophone" in outcome.text

    def test_a_process_that_dies(self) -> None:
        outcome = run_isolated(os._exit, 3, seconds=120)
        assert (outcome.ending, outcome.text) == ("died", "the process ended with code 3")

    def test_too_long_and_too_much(self) -> None:
        start = time.monotonic()
        assert run_isolated(time.sleep, 600, seconds=0.5).ending == "time"
        if resident_bytes(os.getpid()) is not None:
            assert run_isolated(time.sleep, 600, seconds=300, memory=1).ending == "memory"
        assert time.monotonic() - start < 200, "and both were ended"

    def test_resident_memory_is_that(self) -> None:
        before = resident_bytes(os.getpid())
        if before is None:
            pytest.skip("no /proc here")
        # Not an array's memory: a training in this process may have left enough that was freed and kept.
        with mmap.mmap(-1, 100_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
            for page in range(0, len(held), mmap.PAGESIZE):
                held[page] = 1
            after = resident_bytes(os.getpid())
        assert after is not None and 80_000_000 < after - before < 200_000_000


@pytest.mark.parametrize("args", [["tune", "--help"], ["--help"]])
def test_help_is_quick(args: list[str]) -> None:
    code = (
        f"import sys; from yolo.cli.main import main; main({args!r});"
        "print({'torch', 'lightning', 'numpy', 'jsonargparse'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr.strip() == "set()"
    assert "tune" in done.stdout and ("batch-size" in done.stdout) == (args[0] == "tune")
