"""Training samples a second: ours beside ultralytics' and LibreYOLO's data loaders.

    uv run python benchmarks/data.py --data ../shared/datasets/tiny-coco

Samples of 640x640 in batches of 16: mosaic of four always, scale 0.9, translate 0.1, HSV 0.015 / 0.7 / 0.4, left-right
flips, no other augmentation; JPEG files to a uint8 batch. Every measurement is a fresh process with one thread a
process, the sides take turns, and a peer runs in an environment that uv makes for it, with the same Python and torch.
A core's speed is samples per second of processor time (of all processes: the other work on the machine then counts
little), and ratios are taken round by round, then their median.

The training pictures are listed under many names (hard links), so that a peer's buffer holds as much of them as it
would of a large data set: on 50 files, ultralytics' buffer of 128 pictures would hold them all and decode nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

SIZE, BATCH = 640, 16
PEERS = {"ultralytics": "ultralytics==8.4.190", "libreyolo": "libreyolo==1.6.0"}
OURS = {
    "ours": {},
    "ours, turbojpeg": {"image_loader": "turbojpeg"},
    "ours, turbojpeg, share_decoded": {"image_loader": "turbojpeg", "share_decoded": True},
}
SIDES = (*OURS, "ultralytics, no buffer", "ultralytics, buffer", "libreyolo")
STAGES = ("draw", "decode", "warp", "boxes", "hsv", "flip", "collate")


def many_names(data: Path, folder: Path, copies: int) -> None:
    """Write a data set in YOLO layout that has each training picture of ``data`` ``copies`` times."""
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        target = folder / kind / "train"
        target.mkdir(parents=True)
        for source in sorted((data / kind / "train").glob(f"*.{suffix}")):
            first = target / f"00_{source.name}"
            shutil.copy(source, first)
            for number in range(1, copies):
                os.link(first, target / f"{number:02}_{source.name}")
    shutil.copy(data / "data.yaml", folder / "data.yaml")


def ours(data: Path, workers: int, options: dict) -> tuple[Callable[[], Iterator], object]:
    from yolo.data import workers as limits
    from yolo.data.config import DataConfig
    from yolo.data.formats import load_labels
    from yolo.data.loader import build_loader

    limits._cores = lambda: 64  # as many workers as the peers get, on a small machine too
    settings = {"image_size": SIZE, "batch_size": BATCH, "num_workers": workers, "pin_memory": False}
    settings |= {"mosaic_prob": 1.0, "mixup_prob": 0.0, "scale": 0.9, "translate": 0.1, "flip_lr": 0.5, "flip_ud": 0.0}
    settings |= {"hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4}
    config = DataConfig(root=str(data / "data.yaml"), format="yolo", **settings, **options)
    loader = build_loader(config, load_labels(config, "train"), training=True)

    def epochs() -> Iterator:
        for epoch in range(1000):
            loader.batches.set_epoch(epoch)
            yield from loader

    return epochs, loader


def ultralytics(data: Path, workers: int, *, buffer: bool) -> tuple[Callable[[], Iterator], object]:
    import yaml
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader, build_yolo_dataset

    wanted = {"imgsz": SIZE, "task": "detect", "mode": "train", "mosaic": 1.0, "scale": 0.9, "translate": 0.1}
    wanted |= {"hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "fliplr": 0.5, "flipud": 0.0}
    wanted |= dict.fromkeys(("degrees", "shear", "perspective", "mixup", "cutmix", "copy_paste"), 0.0)
    description = yaml.safe_load((data / "data.yaml").read_text()) | {"path": str(data), "channels": 3}
    images = str(data / "images" / "train")
    dataset = build_yolo_dataset(get_cfg(overrides=wanted), images, BATCH, description, mode="train", stride=32)
    if not buffer:
        dataset.max_buffer_length = 1
        _without_buffer(dataset.transforms)
    loader = build_dataloader(dataset, BATCH, workers, shuffle=True, pin_memory=False)

    def epochs() -> Iterator:
        while True:
            yield from loader

    return epochs, loader


def _without_buffer(transform: object) -> None:
    """Let mosaics draw their other pictures from all files."""
    if hasattr(transform, "buffer_enabled"):
        transform.buffer_enabled = False
    below = [*(getattr(transform, "transforms", None) or ()), getattr(transform, "pre_transform", None)]
    for part in below:
        if part is not None:
            _without_buffer(part)


def libreyolo(data: Path, workers: int) -> tuple[Callable[[], Iterator], object]:
    from libreyolo.data.augment.yolo9 import YOLO9MosaicMixupDataset, YOLO9TrainTransform
    from libreyolo.data.dataset import YOLODataset, create_dataloader

    images = sorted((data / "images" / "train").glob("*.jpg"))
    labels = [data / "labels" / "train" / f"{path.stem}.txt" for path in images]
    files = YOLODataset(img_size=(SIZE, SIZE), img_files=images, label_files=labels, num_classes=80)
    dataset = YOLO9MosaicMixupDataset(
        files,
        (SIZE, SIZE),
        preproc=YOLO9TrainTransform(flip_prob=0.5, hsv_prob=1.0),  # its gains cannot be set
        mosaic_prob=1.0,
        mosaic_scale=(0.1, 1.9),
        translate=0.1,
    )
    loader = create_dataloader(dataset, BATCH, workers, shuffle=True, pin_memory=False)

    def epochs() -> Iterator:
        while True:
            yield from loader

    return epochs, loader


def opened(side: str, data: Path, workers: int) -> tuple[Callable[[], Iterator], object]:
    if side in OURS:
        return ours(data, workers, OURS[side])
    if side == "libreyolo":
        return libreyolo(data, workers)
    return ultralytics(data, workers, buffer=side == "ultralytics, buffer")


def processor_time() -> float:
    """Seconds of this process and of its children that run."""
    total = time.process_time()
    ticks = os.sysconf("SC_CLK_TCK")
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def measured(batches: Iterator, count: int) -> dict[str, float]:
    """Take batches, the first ones not counted; what is prefetched is as much at the end as at the beginning."""
    for _ in range(max(4, count // 4)):
        next(batches)
    busy, start = processor_time(), time.perf_counter()
    for _ in range(count):
        next(batches)
    return {"busy": processor_time() - busy, "wall": time.perf_counter() - start, "samples": count * BATCH}


def with_stages(loader: object, spent: dict[str, float]) -> None:
    """Put clocks around the stages of our pipeline."""
    from yolo.data.augment import scene
    from yolo.data.augment.flip import RandomFlip
    from yolo.data.augment.hsv import RandomHSV
    from yolo.data.augment.pipeline import Pipeline

    def clocked(owner: object, name: str, stage: str) -> None:
        function = getattr(owner, name)

        def call(*args: object, **options: object) -> object:
            start = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                spent[stage] = spent.get(stage, 0.0) + time.thread_time() - start
                spent[f"{stage} calls"] = spent.get(f"{stage} calls", 0) + 1

        setattr(owner, name, call)

    clocked(Pipeline, "draw", "draw")
    clocked(loader.dataset.loader, "read", "decode")
    clocked(scene, "paint", "warp")
    clocked(scene, "visible_targets", "boxes")
    clocked(RandomHSV, "recolour", "hsv")
    clocked(RandomFlip, "apply", "flip")
    torch.utils.data.DataLoader.__setattr__(loader, "collate_fn", loader.collate_fn)
    clocked(loader, "collate_fn", "collate")


def one(side: str, data: Path, workers: int, count: int, *, stages: bool) -> None:
    """Measure in this process and print JSON."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    epochs, loader = opened(side, data, workers)
    spent: dict[str, float] = {}
    batches = epochs()
    if stages:
        next(batches)
        with_stages(loader, spent)
        loader.batches.set_epoch(500)
        batches = iter(loader)
        for _ in range(4):
            next(batches)
        spent.clear()
        busy = time.thread_time()
        for _ in range(count):
            next(batches)
        spent["all"] = time.thread_time() - busy
        spent["warp"] -= spent["hsv"]  # done while drawing
        print(json.dumps({"samples": count * BATCH, "spent": spent}))
        return
    result = measured(batches, count)
    print(json.dumps(result), flush=True)
    os._exit(0)  # the workers of an unfinished epoch need not be waited for


def command(side: str) -> list[str]:
    """How to run this file for one side."""
    script = str(Path(__file__).resolve())
    if side in OURS:
        return [sys.executable, script]
    version = torch.__version__.split("+")[0]
    packages = ["--with", PEERS[side.partition(",")[0]], "--with", f"torch=={version}"]
    # --no-project: the peer's environment is its own, outside of our lock
    return ["uv", "run", "--no-project", "--python", sys.executable, *packages, "python", script]


def run(side: str, arguments: list[str], folder: Path) -> dict:
    settings = {**os.environ, "YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true", "OMP_NUM_THREADS": "1"}
    arguments = [*command(side), "--one", side, *arguments]
    done = subprocess.run(arguments, env=settings, cwd=folder, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr.decode()}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(sides: list[str], workers: int, options: argparse.Namespace, folder: Path) -> None:
    arguments = ["--data", str(folder / "data"), "--workers", str(workers), "--batches", str(options.batches)]
    found: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            found[side].append(run(side, arguments, folder))
    busy = {side: [run["busy"] / run["samples"] for run in runs] for side, runs in found.items()}
    for side, runs in found.items():
        ratios = []
        for peer in ("ultralytics, no buffer", "ultralytics, buffer"):
            pairs = zip(busy.get(peer, []), busy[side], strict=False)
            ratio = [theirs / own for theirs, own in pairs]
            ratios.append(f"{statistics.median(ratio):.2f}" if ratio else "")
        wall = statistics.median(run["samples"] / run["wall"] for run in runs)
        speed = 1 / statistics.median(busy[side])
        print(f"| {workers} | {side} | {speed:.0f} | {' | '.join(ratios)} | {wall:.0f} |", flush=True)


def breakdown(side: str, options: argparse.Namespace, folder: Path) -> None:
    arguments = ["--data", str(folder / "data"), "--workers", "0", "--batches", str(options.batches), "--stages"]
    runs = [run(side, arguments, folder) for _ in range(options.rounds)]
    best = min(runs, key=lambda item: item["spent"]["all"])
    spent, samples = best["spent"], best["samples"]
    times = [spent.get(stage, 0.0) / samples * 1000 for stage in STAGES]
    whole = spent["all"] / samples * 1000
    cells = [f"{value:.2f}" for value in (*times, whole - sum(times), whole)]
    decodes, limit = spent["decode calls"] / samples, samples / spent["decode"]
    print(f"| {side} | {' | '.join(cells)} | {decodes:.2f} | {limit:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/train, labels/train and data.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--copies", type=int, default=40, help="names of each picture")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES, metavar="SIDE")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--stages", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.data, options.workers[0], options.batches, stages=options.stages)
        return
    print(f"torch {torch.__version__}, {', '.join(PEERS.values())}, Python {platform.python_version()}, ", end="")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before", end="\n\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many_names(options.data, folder / "data", options.copies)
        print("| workers | | samples a second of one core | times ultralytics without buffer | with it | ", end="")
        print("samples a second |\n|---|---|---|---|---|---|", flush=True)
        for workers in options.workers:
            compare(options.sides, workers, options, folder)
        print(
            f"\n| ms a sample | {' | '.join(STAGES)} | rest | all | files decoded | decoding alone, samples a second |"
        )
        print("|---" * (len(STAGES) + 5) + "|", flush=True)
        for side in options.sides:
            if side in OURS:
                breakdown(side, options, folder)
    print(f"\nload {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
