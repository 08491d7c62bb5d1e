"""The image cache: reading, creating, memory, and opening a large one.

    uv run python benchmarks/cache.py --data ../shared/datasets/tiny-coco

Reading is measured against (a) the limit, decoding the same JPEG bytes from memory, and (b) loading the original files.
All sides take turns in one process and thread; a figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from yolo.data.cache.build import build_cache
from yolo.data.cache.loader import CachedImageLoader
from yolo.data.cache.pictures import SourceFacts, decode_record, encode_record
from yolo.data.cache.settings import CacheSettings, cache_folder
from yolo.data.cache.use import open_images, open_store
from yolo.data.config import DataConfig
from yolo.data.encryption.keys import parse_key
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loaders import DefaultImageLoader, ImageLoader, TurboJPEGLoader
from yolo.data.packed import PackedStrings

KEY = "0123456789abcdef" * 4
MODES = {"jpeg": {}, "raw": {"cache_format": "raw"}}


def copied(data: Path, root: Path, copies: int) -> DataConfig:
    """Lay the pictures of a COCO data set down under several names, in the YOLO layout."""
    config = DataConfig(root=str(data), cache_labels=False)
    images, labels = root / "images/train", root / "labels/train"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    table = load_labels(config, "val" if not (data / "annotations/instances_train.json").exists() else "train")
    for copy in range(copies):
        for index in range(len(table)):
            name = f"{copy:03}_{Path(table.path(index)).name}"
            shutil.copy(table.path(index), images / name)
            (labels / name).with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnc: 1\nnames: [thing]\n")
    return DataConfig(
        root=str(root),
        format="yolo",
        cache_labels=False,
        cache_images="disk",
        cache_resize_images=False,
        image_size=640,
    )


def per_second(sides: dict[str, Callable[[int], object]], count: int, rounds: int) -> dict[str, float]:
    """Pictures a second of each side, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, read in sides.items():
            start = time.perf_counter()
            for index in range(count):
                read(index)
            if turn:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    return {name: count / statistics.median(values) for name, values in times.items()}


def reading(config: DataConfig, table: LabelTable, rounds: int) -> None:
    """Table of reads a second."""
    paths = list(table.paths)
    sides: dict[str, Callable[[int], object]] = {}
    for title, loader in (("files, default loader", DefaultImageLoader()), ("files, turbojpeg", TurboJPEGLoader())):
        sides[title] = lambda index, loader=loader: loader.read(paths[index])
    for name, changes in MODES.items():
        for encrypted in (False, True):
            settings = replace(config, **changes, cache_encrypt=encrypted, cache_dir=f"{name}-{encrypted}")
            build(settings, table, workers=None)
            if not encrypted:
                kept = [record(loader_of(settings, table), path, name) for path in paths]
                sides[f"{name}, decoding from memory: the limit"] = lambda index, kept=kept: decode_record(kept[index])
            images = loader_of(settings, table)
            title = f"{name}, {'encrypted' if encrypted else 'plain'}"
            sides[title] = lambda index, images=images: images.read(paths[index])
    found = per_second(sides, len(paths), rounds)
    print("| | pictures a second | of the limit | times the files (default, turbojpeg) |\n|---|---|---|---|")
    for title, value in found.items():
        limit = found.get(f"{title.split(',')[0]}, decoding from memory: the limit")
        share = f"{value / limit:.0%}" if limit else ""
        files = [value / found[name] for name in list(found)[:2]]
        print(f"| {title} | {value:.0f} | {share} | {files[0]:.2f}, {files[1]:.2f} |")


def record(images: ImageLoader, path: str, picture_format: str) -> bytes:
    """The content of a record, in memory."""
    picture = DefaultImageLoader().read(path)
    return encode_record(picture, SourceFacts.of(path), picture_format=picture_format, quality=95)  # type: ignore[arg-type]


def build(config: DataConfig, table: LabelTable, workers: int | None, loader: ImageLoader | None = None) -> float:
    """Build a cache; seconds."""
    key = parse_key(KEY, source="the benchmark") if config.cache_encrypt else None
    shutil.rmtree(cache_folder(config), ignore_errors=True)
    start = time.perf_counter()
    build_cache(
        cache_folder(config),
        CacheSettings.of(config),
        {"train": table},
        root=config.folder,
        loader=loader or TurboJPEGLoader(),
        key=key,
        workers=workers,
    )
    return time.perf_counter() - start


def loader_of(config: DataConfig, table: LabelTable) -> CachedImageLoader:
    """What reads a cache that was just built."""
    images = open_images(config, {"train": table}, checked=True)
    assert isinstance(images, CachedImageLoader)
    return images


def creating(config: DataConfig, table: LabelTable) -> None:
    """Table of pictures a second put into a cache."""
    loader = TurboJPEGLoader()
    start = time.perf_counter()
    for path in table.paths:
        cv2.imencode(".jpg", cv2.cvtColor(loader.read(path), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    alone = len(table) / (time.perf_counter() - start)
    print(f"| decode and encode in one thread, nothing stored | {alone:.0f} | 1.00 |")
    for encrypted in (False, True):
        for workers in (1, 2):
            settings = replace(config, cache_encrypt=encrypted, cache_dir="made")
            speed = len(table) / build(settings, table, workers)
            title = f"{'encrypted' if encrypted else 'plain'}, {workers} thread{'s' * (workers > 1)}"
            print(f"| {title} | {speed:.0f} | {speed / alone:.2f} |")


def private(pid: int | str = "self") -> float:
    """Memory of a process that it shares with nobody, MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


def read_all(images: CachedImageLoader, paths: list[str], answer: object) -> None:
    """What a worker does: read every picture three times, and tell its memory after each time."""
    cv2.setNumThreads(0)
    start = time.perf_counter()
    images.read(paths[0])
    first = time.perf_counter() - start
    found = []
    for _ in range(3):
        for path in paths:
            images.read(path)
        found.append(private())
    answer.send((first, found))  # type: ignore[attr-defined]  # a pipe's end


def workers(config: DataConfig, table: LabelTable, number: int, method: str) -> None:
    """Memory of several workers that read one cache."""
    images, paths, context = loader_of(config, table), list(table.paths), get_context(method)
    pipes, processes = [], []
    for _ in range(number):
        ours, theirs = context.Pipe(duplex=False)
        processes.append(context.Process(target=read_all, args=(images, paths, theirs)))
        processes[-1].start()
        pipes.append(ours)
    answers = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join(60)
    each = np.array([found for _, found in answers]).mean(axis=0)
    print(f"{number} workers ({method}), encrypted={config.cache_encrypt}: private memory of each after 1, 2, 3 rounds "
          f"{', '.join(f'{value:.0f}' for value in each)} MiB; first picture after "
          f"{max(first for first, _ in answers) * 1e3:.0f} ms")  # fmt: skip


@dataclass
class Tiny(ImageLoader):
    """Gives one tiny picture for every path."""

    needs_files = False

    def __call__(self, path: str) -> np.ndarray:
        """Return 8 x 8 pixels."""
        return np.zeros((8, 8, 3), np.uint8)


def large(root: Path, count: int, encrypted: bool) -> None:
    """Opening a cache of very many records."""
    paths = PackedStrings.pack(str(root / f"{i // 1000:04}/{i:07}.jpg") for i in range(count))
    table = LabelTable(
        class_names=("thing",),
        category_ids=(0,),
        paths=paths,
        sizes=np.full((count, 2), 8, np.int32),
        offsets=np.arange(count + 1, dtype=np.int64),
        boxes=np.tile(np.array([[1, 1, 5, 5]], np.float32), (count, 1)),
        labels=np.zeros(count, np.int64),
        crowd=np.zeros(count, np.bool_),
        area=np.full(count, 16, np.float32),
        image_ids=np.arange(count, dtype=np.int64),
    )
    config = DataConfig(
        root=str(root), format="yolo", cache_images="disk", cache_format="raw", cache_only=True,
        cache_encrypt=encrypted, cache_dir=f"large-{encrypted}", encryption_key=KEY, image_size=640,
    )  # fmt: skip
    seconds = build(config, table, None, Tiny())
    before, start = private(), time.perf_counter()
    store = open_store(config)
    index = store.index
    read = time.perf_counter() - start
    held = private() - before
    images = open_images(config, {"train": table})
    ready = time.perf_counter() - start
    print(f"{len(index)} records, encrypted={encrypted}: made in {seconds:.0f} s; index read in {read:.2f} s, "
          f"{held:.0f} MiB; ready to read after {ready:.2f} s, {private() - before:.0f} MiB")  # fmt: skip
    for method in ("fork", "spawn"):
        context = get_context(method)
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=read_all, args=(images, [table.path(7)], theirs))
        process.start()
        first, memory = ours.recv()
        process.join(60)
        print(f"    a worker ({method}): first picture after {first * 1e3:.0f} ms, private memory {memory[-1]:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a COCO data set")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--records", type=int, default=1_000_000, help="of the large cache; 0: leave it out")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    os.environ["YOLO_ENCRYPTION_KEY"] = KEY
    with tempfile.TemporaryDirectory(prefix="yolo-cache-benchmark-") as name:
        config = copied(options.data.resolve(), Path(name) / "data", options.copies)
        table = load_labels(config, "train")
        print(f"{len(table)} pictures, Python {platform.python_version()}, OpenCV {cv2.__version__}, "
              f"load {os.getloadavg()[0]:.1f}\n")  # fmt: skip
        reading(config, table, options.rounds)
        print("\n| creating a jpeg cache | pictures a second | times |\n|---|---|---|")
        creating(config, table)
        print()
        for encrypted in (False, True):
            settings = replace(config, cache_encrypt=encrypted, cache_dir="made")
            build(settings, table, None)
            workers(settings, table, options.workers, "fork")
        print()
        for encrypted in (False, True) if options.records else ():
            large(Path(name) / "large", options.records, encrypted)


if __name__ == "__main__":
    main()
