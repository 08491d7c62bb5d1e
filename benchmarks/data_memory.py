"""Memory and start-up of the data pipeline on a data set of 100,000 label files.

    uv run python benchmarks/data_memory.py

The pictures are a small JPEG under 100,000 names (hard links, in folders of 1,000), each with a label file of its own
of 0 to 14 boxes. It measures how long reading the labels takes and what the table of labels holds, then trains without
a network: 5 epochs of a limited number of batches with persistent workers, and after each epoch the memory of every
worker, as the kernel counts it. Pss counts a page that n processes share as 1/n of a page, so the sum over all
processes is what the machine has to provide; Rss counts it in full in each.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import platform
import random
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from yolo.data import workers as limits
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.loader import build_loader

CLASSES = 80
FOLDER = 1000


def make(root: Path, count: int) -> int:
    """Write the data set and return its number of boxes."""
    rng = random.Random(0)
    boxes, picture, first = 0, io.BytesIO(), root
    Image.linear_gradient("L").resize((160, 120)).convert("RGB").save(picture, format="JPEG", quality=85)
    data = picture.getvalue()
    for number in range(count):
        name = f"{number // FOLDER:03}/{number:06}"
        image, label = root / "images/train" / f"{name}.jpg", root / "labels/train" / f"{name}.txt"
        if number % FOLDER == 0:  # a file system allows some ten thousand names of one file
            image.parent.mkdir(parents=True)
            label.parent.mkdir(parents=True)
            image.write_bytes(data)
            first = image
        else:
            os.link(first, image)
        lines = []
        for _ in range(rng.randrange(15)):
            width, height = rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.5)
            x, y = rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2)
            lines.append(f"{rng.randrange(CLASSES)} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n")
        boxes += len(lines)
        label.write_text("".join(lines))
    names = "".join(f"  {number}: class {number}\n" for number in range(CLASSES))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/train\nnc: {CLASSES}\nnames:\n{names}")
    return boxes


def memory(pid: int | str) -> tuple[float, float]:
    """Rss and Pss of a process, MiB."""
    found = {"Rss": 0.0, "Pss": 0.0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) / 1024
    return found["Rss"], found["Pss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batches", type=int, default=60, help="batches an epoch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--context", choices=["fork", "spawn", "forkserver"], default="fork")
    parser.add_argument("--folder", type=Path, help="where to write the data set; a temporary folder if not given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    limits._cores = lambda: 64  # as many workers as asked for
    print(f"torch {torch.__version__}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"{options.workers} workers ({options.context})")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        measure(Path(name), options)


def measure(root: Path, options: argparse.Namespace) -> None:
    start = time.perf_counter()
    boxes = make(root, options.images)
    print(f"{options.images} label files with {boxes} boxes written in {time.perf_counter() - start:.1f} s")
    config = DataConfig(
        root=str(root / "data.yaml"), format="yolo", image_size=320, num_workers=options.workers, pin_memory=False
    )
    before = memory("self")[0]
    for turn in ("first", "again"):
        start = time.perf_counter()
        table = load_labels(config, "train")
        print(f"labels read ({turn}): {time.perf_counter() - start:.1f} s, ", end="")
        held = sum(value.nbytes for value in vars(table).values() if hasattr(value, "nbytes"))
        held += table.paths.data.nbytes + table.paths.offsets.nbytes
        print(f"table {held / 2**20:.1f} MiB, process {memory('self')[0] - before:+.0f} MiB Rss")
    start = time.perf_counter()
    loader = build_loader(config, table, training=True, max_epochs=options.epochs + 20, context=options.context)
    print("| epoch | main, MiB Rss | workers, MiB Rss | all, MiB Pss | s |\n|---|---|---|---|---|")
    for epoch in range(options.epochs):
        loader.batches.set_epoch(epoch)
        # The last ones of an epoch: another epoch begins with the same workers.
        loader.batches.start_batch = len(loader.batches) - options.batches
        for number, _ in enumerate(loader):
            if epoch == number == 0:
                print(f"|  | first batch after {time.perf_counter() - start:.1f} s | | | |")
                start = time.perf_counter()
        workers = [memory(process.pid) for process in multiprocessing.active_children()]
        own = memory("self")
        each = ", ".join(f"{rss:.0f}" for rss, _ in sorted(workers))
        total = own[1] + sum(pss for _, pss in workers)
        print(f"| {epoch + 1} | {own[0]:.0f} | {each} | {total:.0f} | {time.perf_counter() - start:.1f} |", flush=True)
        start = time.perf_counter()


if __name__ == "__main__":
    main()
