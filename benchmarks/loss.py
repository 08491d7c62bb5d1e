"""Detection loss, forward and backward: ours beside ultralytics' v8DetectionLoss.

    uv run python benchmarks/loss.py

Batch 16, 640x640 (8400 anchors), 80 classes, 20 and 300 boxes per image, CPU, float32, main branch only. Both get the
same numbers. Every measurement is a fresh process, the two take turns, and the peer runs in an environment that uv
makes for it, with the same Python and the same torch. Time: the shortest call of all rounds, since other work on the
machine only adds to it. Memory: the highest resident set of the process during the first call, above what was resident
just before it, when the predictions existed already; the gradients are part of it (74 MiB).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

PEER = "ultralytics==8.4.190"
BATCH, CLASSES, BINS, SIZE = 16, 80, 16, 640
STRIDES = (8, 16, 32)


def inputs(boxes_per_image: int, batch: int = BATCH) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor, Tensor]:
    """Class and distance logits per scale, and boxes, labels, image indices: scattered objects of many sizes."""
    generator = torch.Generator().manual_seed(boxes_per_image)
    sides = [SIZE // stride for stride in STRIDES]
    cls = [torch.randn(batch, CLASSES, side, side, generator=generator) - 4 for side in sides]
    dist = [torch.randn(batch, 4 * BINS, side, side, generator=generator) for side in sides]
    count = batch * boxes_per_image
    centre = torch.rand(count, 2, generator=generator) * SIZE
    half = torch.exp(torch.randn(count, 2, generator=generator) * 0.8 + 4) / 2
    boxes = torch.cat((centre - half, centre + half), dim=1).clamp(0, SIZE)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return cls, dist, boxes, labels, torch.arange(batch).repeat_interleave(boxes_per_image)


def ours(boxes_per_image: int, batch: int = BATCH):
    from yolo.core.losses import DetectionLoss, LossConfig
    from yolo.core.outputs import BranchOutput, HeadOutput

    cls, dist, boxes, labels, image = inputs(boxes_per_image, batch)
    leaves = [tensor.requires_grad_() for tensor in (*cls, *dist)]
    output = HeadOutput(BranchOutput(tuple(cls), tuple(dist), STRIDES))
    loss = DetectionLoss(LossConfig())
    return leaves, lambda: loss(output, boxes, labels, image).total


def ultralytics(boxes_per_image: int, batch: int = BATCH):
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.loss import v8DetectionLoss

    model = DetectionModel("yolov8n.yaml", ch=3, nc=CLASSES, verbose=False)
    model.args = get_cfg()
    cls, dist, boxes, labels, image = inputs(boxes_per_image, batch)
    leaves = [torch.cat([scale.flatten(2) for scale in scales], dim=2) for scales in (cls, dist)]
    feats = [torch.empty(batch, 1, scale.shape[2], scale.shape[3]) for scale in cls]  # only their shapes matter
    del cls, dist
    leaves = [tensor.requires_grad_() for tensor in leaves]
    size = boxes[:, 2:] - boxes[:, :2]
    targets = {
        "batch_idx": image.float(),
        "cls": labels.float()[:, None],
        "bboxes": torch.cat((boxes[:, :2] + size / 2, size), dim=1) / SIZE,
    }
    loss = v8DetectionLoss(model)
    return leaves, lambda: loss({"scores": leaves[0], "boxes": leaves[1], "feats": feats}, targets)[0].sum()


def resident(field: str) -> float:
    """MiB of VmRSS (now) or VmHWM (peak)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def one(name: str, boxes_per_image: int, repeats: int, threads: int) -> None:
    """Measure in this process and print JSON."""
    torch.set_num_threads(threads)
    make = {"ours": ours, "ultralytics": ultralytics}[name]
    _, call = make(2, batch=1)
    call().backward()  # loads what is loaded lazily
    leaves, call = make(boxes_per_image)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    value = call()
    value.backward()
    memory = resident("VmHWM") - before
    times = []
    for _ in range(repeats):
        for leaf in leaves:
            leaf.grad = None
        start = time.perf_counter()
        call().backward()
        times.append(time.perf_counter() - start)
    print(json.dumps({"times": times, "memory": memory, "loss": value.item(), "torch": torch.__version__}))


def command(name: str) -> list[str]:
    """How to run this file for one side."""
    if name == "ours":
        return [sys.executable, str(Path(__file__).resolve())]
    version = torch.__version__.split("+")[0]
    # --no-project: the peer's environment is its own, outside of our lock
    packages = ["--with", PEER, "--with", f"torch=={version}"]
    return ["uv", "run", "--no-project", "--python", sys.executable, *packages, "python", str(Path(__file__).resolve())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--boxes", type=int, nargs="+", default=[20, 300])
    parser.add_argument("--one", choices=["ours", "ultralytics"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.boxes[0], options.repeats, options.threads)
        return
    print(f"torch {torch.__version__}, {PEER}, Python {platform.python_version()}, {options.threads} threads\n")
    print("| boxes per image | | time, ms | memory, MiB | time ratio | memory ratio |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "true"}
        for boxes in options.boxes:
            found: dict[str, list[dict]] = {"ours": [], "ultralytics": []}
            for _ in range(options.rounds):
                for name, runs in found.items():
                    arguments = ["--one", name, "--boxes", str(boxes), "--repeats", str(options.repeats)]
                    arguments += ["--threads", str(options.threads)]
                    done = subprocess.run(
                        command(name) + arguments, env=environment, cwd=folder, check=True, stdout=subprocess.PIPE
                    )
                    runs.append(json.loads(done.stdout.splitlines()[-1]))
            seconds = {n: min(t for run in runs for t in run["times"]) for n, runs in found.items()}
            memory = {n: statistics.median(run["memory"] for run in runs) for n, runs in found.items()}
            for name in found:
                ratios = f"{seconds[name] / seconds['ultralytics']:.2f} | {memory[name] / memory['ultralytics']:.2f}"
                print(f"| {boxes} | {name} | {seconds[name] * 1000:.0f} | {memory[name]:.0f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
