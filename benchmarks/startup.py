"""How long ``yolo --help`` takes, beside an empty Python and beside importing torch.

    uv run python benchmarks/startup.py [--repeats 15] [--torch]

The commands are run in turn, round after round, so that a busy moment of the machine hits all of them alike. The first
round only warms the file cache. The aim is a median below 0.25 s for ``yolo --help``. The column ``cpu`` is processor
time, which a busy machine does not stretch much.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

TARGET_SECONDS = 0.25


@dataclass(frozen=True)
class Run:
    wall: float
    cpu: float


def run(arguments: list[str]) -> Run:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure(commands: dict[str, list[str]], repeats: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(repeats + 1):
        for name, arguments in commands.items():
            done = run(arguments)
            if number:
                runs[name].append(done)
    return runs


def main() -> int:
    parser = argparse.ArgumentParser(description="Start-up time of the yolo command.")
    parser.add_argument("--repeats", type=int, default=15, help="rounds that count (default 15)")
    parser.add_argument("--torch", action="store_true", help="measure 'import torch' too, which takes seconds")
    parser.add_argument("--check", action="store_true", help=f"end with 1 when the median is above {TARGET_SECONDS} s")
    options = parser.parse_args()
    commands = {
        "python -c pass": ["-c", "pass"],
        "python -c 'import click'": ["-c", "import click"],
        "yolo --help": ["-m", "yolo", "--help"],
        "yolo --no-plugins --help": ["-m", "yolo", "--no-plugins", "--help"],
        "yolo plugins": ["-m", "yolo", "plugins"],
    }
    if options.torch:
        commands["python -c 'import torch'"] = ["-c", "import torch"]
    runs = measure(commands, options.repeats)
    walls = {name: statistics.median(done.wall for done in taken) for name, taken in runs.items()}
    print(f"{'command':<28}{'median':>9}{'fastest':>9}{'cpu':>9}{'x python':>10}")
    for name, taken in runs.items():
        fastest = min(done.wall for done in taken)
        cpu = statistics.median(done.cpu for done in taken)
        ratio = walls[name] / walls["python -c pass"]
        print(f"{name:<28}{walls[name]:>8.3f}s{fastest:>8.3f}s{cpu:>8.3f}s{ratio:>10.1f}")
    median = walls["yolo --help"]
    print(f"\nyolo --help: {median:.3f} s, aim below {TARGET_SECONDS} s: {'yes' if median < TARGET_SECONDS else 'no'}")
    return int(options.check and median >= TARGET_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
