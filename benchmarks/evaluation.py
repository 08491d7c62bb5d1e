"""Evaluation of a validation set: ours beside pycocotools and faster-coco-eval, in time and memory.

    uv run python benchmarks/evaluation.py

5,000 images, 100 detections each, 80 classes; 7.3 objects an image as in COCO's val2017, some of them crowds. Every
measurement is a process of its own and the sides take turns. The clock runs from what a program has in its hands after
the last batch to the twelve numbers and AP by class: for ours the stored arrays and the table of labels, for the others
the ground truth and the detections as COCO's dictionaries. Building those dictionaries (some seconds) is not counted
against them. ``everything`` is ours with all of the analysis: curves, confusions, errors by cause, calibration.

Time is that of the processor, the least of all rounds. Memory is the highest resident set of the process, above what
was resident when the clock started.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings
from yolo.training.metrics import Detected, Evaluator, Protocol

SIDES = ("pycocotools", "faster-coco-eval", "ours", "everything")
OBJECTS = 7.3
WIDTH, HEIGHT = 640, 480


def make_truth(images: int, classes: int, seed: int = 0) -> LabelTable:
    """Labels with COCO's number of objects, sizes over all three buckets, frequent and rare classes, and 1 % crowds."""
    rng = np.random.default_rng(seed)
    counts = np.minimum(rng.geometric(1 / (OBJECTS + 1), images) - 1, 60)
    total = int(counts.sum())
    size = np.exp(rng.normal(4.0, 0.9, (total, 2))).clip(6, 400)
    corner = rng.random((total, 2)) * (np.array([WIDTH, HEIGHT]) - size).clip(1)
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    frequency = 1 / np.arange(1, classes + 1) ** 0.8
    return LabelTable(
        class_names=tuple(f"class {i}" for i in range(classes)),
        category_ids=tuple(range(1, classes + 1)),
        paths=PackedStrings.pack(f"{i:012}.jpg" for i in range(images)),
        sizes=np.tile(np.array([WIDTH, HEIGHT], np.int32), (images, 1)),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes,
        labels=rng.choice(classes, total, p=frequency / frequency.sum()),
        crowd=rng.random(total) < 0.01,
        area=(size.prod(axis=1) * rng.uniform(0.4, 0.9, total)).astype(np.float32),
        image_ids=np.arange(1, images + 1) * 7,
    )


def make_detections(table: LabelTable, each: int, seed: int = 1) -> list[Detected]:
    """What a fair detector leaves after NMS at a confidence of 0.001: some good boxes, and a long faint tail."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(len(table)):
        truth = table.truth(index)
        near = np.repeat(np.arange(len(truth.labels)), rng.poisson(4, len(truth.labels)))[:each]
        side = np.tile(truth.boxes[near, 2:] - truth.boxes[near, :2], 2)
        close = truth.boxes[near] + rng.normal(0, rng.choice([0.03, 0.1, 0.25], (len(near), 1)), side.shape) * side
        rest = each - len(near)
        corner, size = rng.random((rest, 2)) * [WIDTH, HEIGHT], np.exp(rng.normal(4.0, 0.9, (rest, 2)))
        boxes = np.concatenate([close, np.concatenate([corner, corner + size], axis=1)])
        boxes = boxes.clip(0, [WIDTH, HEIGHT] * 2)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        other = rng.integers(table.num_classes, size=each)
        labels = np.where(rng.random(each) < 0.75, np.append(truth.labels[near], other[len(near) :]), other)
        scores = np.append(rng.beta(1, 2, len(near)), rng.beta(0.3, 12, rest)).clip(0.001)
        order = np.argsort(-scores)
        found.append(
            Detected(boxes[order].astype(np.float32), scores[order].astype(np.float32), labels[order].astype(np.int64))
        )
    return found


def prepare(name: str, images: int, each: int, classes: int) -> Callable[[], list[float]]:
    """Return the call to measure; it gives the twelve numbers."""
    table = make_truth(images, classes)
    evaluator = Evaluator(table)
    evaluator.update(range(images), make_detections(table, each))
    protocol = Protocol(0.001, 0.65, each, (640, 640))
    if name in ("ours", "everything"):

        def ours() -> list[float]:
            evaluation = evaluator.compute(protocol)
            if name == "everything":
                json.dumps(evaluation.as_dict())
            return list(evaluation.stats.as_dict().values())

        return ours
    truth, found = table.coco_ground_truth(), evaluator.coco_detections()

    def theirs() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            if name == "pycocotools":
                from pycocotools.coco import COCO
                from pycocotools.cocoeval import COCOeval

                coco = COCO()
                coco.dataset = truth
                coco.createIndex()
            else:
                from faster_coco_eval import COCO
                from faster_coco_eval import COCOeval_faster as COCOeval

                coco = COCO(truth)
            judge = COCOeval(coco, coco.loadRes(found), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return [float(number) for number in judge.stats[:12]]

    return theirs


def resident(field: str) -> float:
    """MiB of VmRSS (now) or VmHWM (peak)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def one(name: str, images: int, each: int, classes: int) -> None:
    """Measure in this process and print JSON."""
    prepare(name, 8, 10, classes)()  # loads what is loaded lazily
    call = prepare(name, images, each, classes)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    clock, processor = time.perf_counter(), time.process_time()
    numbers = call()
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    print(
        json.dumps({"s": processor, "clock": clock, "memory": resident("VmHWM") - before, "numbers": numbers}),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="in each image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = (options.images, options.detections, options.classes)
    if options.one:
        one(options.one, *sizes)
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pycocotools", "faster-coco-eval"))
    print(f"{packages}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    print(f"{sizes[0]} images, {sizes[1]} detections each, {sizes[2]} classes\n")
    arguments = ["--images", str(sizes[0]), "--detections", str(sizes[1]), "--classes", str(sizes[2])]
    found: dict[str, list[dict]] = {name: [] for name in options.sides}
    for _ in range(options.rounds):
        for name, runs in found.items():
            command = [sys.executable, str(Path(__file__).resolve()), "--one", name, *arguments]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, timeout=1800)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{name}: {runs[-1]['s']:.2f} s, {runs[-1]['memory']:.0f} MiB", file=sys.stderr, flush=True)
    seconds = {name: min(run["s"] for run in runs) for name, runs in found.items()}
    memory = {name: statistics.median(run["memory"] for run in runs) for name, runs in found.items()}
    first = options.sides[0]
    print(f"| | s of processor | s | MiB | times as fast as {first} | memory ratio | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for name, runs in found.items():
        apart = max(abs(a - b) for a, b in zip(runs[0]["numbers"], found[first][0]["numbers"], strict=True))
        print(
            f"| {name} | {seconds[name]:.2f} | {min(run['clock'] for run in runs):.2f} | {memory[name]:.0f} "
            f"| {seconds[first] / seconds[name]:.1f} | {memory[name] / memory[first]:.2f} | {apart:.1e} |"
        )


if __name__ == "__main__":
    main()
