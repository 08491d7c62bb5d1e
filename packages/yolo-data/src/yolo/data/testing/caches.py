"""Small caches for tests, written record by record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from yolo.data.cache.head import HEAD, Head
from yolo.data.cache.index import CacheIndex, SplitIndex, write_index
from yolo.data.cache.pictures import DIGEST_SIZE, SourceFacts, encode_record
from yolo.data.cache.seal import record_label
from yolo.data.cache.settings import CacheSettings
from yolo.data.cache.store import CacheStore
from yolo.data.cache.writer import Writer
from yolo.data.encryption.keys import Key
from yolo.data.labels import LabelTable
from yolo.data.loaders.base import Pixels
from yolo.data.packed import PackedStrings

#: Class names of these caches.
CLASSES = ("red blood cell", "Platelet ü")


def make_pictures(count: int, *, size: int = 64, seed: int = 0) -> list[Pixels]:
    """Draw smooth random pictures, uint8 ``[size, size + i, 3]``, no two alike."""
    rng = np.random.default_rng(seed)
    pictures = []
    for number in range(count):
        coarse = rng.integers(0, 256, (size // 16, size // 16, 3), dtype=np.uint8)
        pictures.append(np.asarray(cv2.resize(coarse, (size + number, size)), np.uint8))
    return pictures


def make_table(paths: Iterable[str]) -> LabelTable:
    """Return labels with one box for each image."""
    packed = PackedStrings.pack(paths)
    count = len(packed)
    return LabelTable(
        class_names=CLASSES,
        category_ids=(3, 7),
        paths=packed,
        sizes=np.full((count, 2), 64, np.int32),
        offsets=np.arange(count + 1, dtype=np.int64),
        boxes=np.tile(np.array([[1, 2, 30, 40]], np.float32), (count, 1)),
        labels=np.arange(count, dtype=np.int64) % len(CLASSES),
        crowd=np.zeros(count, np.bool_),
        area=np.full(count, 1102, np.float32),
        image_ids=np.arange(count, dtype=np.int64),
    )


def make_cache(
    folder: Path,
    pictures: list[Pixels],
    *,
    key: Key | None = None,
    picture_format: Literal["jpeg", "raw"] = "raw",
    head: Head | None = None,
) -> CacheIndex:
    """Write a complete cache of the splits ``train`` and, the last image of it once more, ``val``.

    Args:
        folder: of the cache.
        pictures: of its records.
        key: of its encryption.
        picture_format: of its records.
        head: an id to use again, so that the cache is a further generation of an older one.

    Returns:
        Its index.
    """
    settings = CacheSettings("yolo", picture_format, 95, None, 1.0, key is not None)
    head = replace(head or Head.new(key=key, records=0), records=len(pictures), complete=True)
    seal = head.seal(key, folder)
    paths = [f"train/images/the picture {number:04}.jpg" for number in range(len(pictures))]
    facts = SourceFacts(17, 1, 2, bytes(DIGEST_SIZE))
    stored = [
        seal.close(encode_record(picture, facts, picture_format=picture_format, quality=95), record_label(number))
        for number, picture in enumerate(pictures)
    ]
    count = len(pictures)
    records = np.arange(count, dtype=np.int32)
    index = CacheIndex(
        settings=settings,
        root="/data/set",
        paths=PackedStrings.pack(paths),
        checks=np.array([list(seal.check(value)) for value in stored], np.uint8).reshape(count, seal.check_size),
        sizes_stored=np.array([len(value) for value in stored], np.int64),
        source_sizes=np.full(count, facts.size, np.int64),
        mtimes=np.full(count, facts.mtime_ns, np.int64),
        ctimes=np.full(count, facts.ctime_ns, np.int64),
        digests=np.zeros((count, DIGEST_SIZE), np.uint8),
        splits={
            "train": SplitIndex(make_table(paths), records),
            "val": SplitIndex(make_table(paths[-1:]), records[-1:]),
        },
    )
    with Writer(folder) as writer:
        writer.put_many([(record_label(number), value) for number, value in enumerate(stored)])
        write_index(writer, seal, index)
        writer.put_many([(HEAD, head.as_json())])
    return index


def read_all(store: CacheStore, answers: Queue[list[Pixels] | str]) -> None:
    """Read every record, in a process of its own, and send the pictures; an error as text."""
    try:
        answers.put([store.read(number) for number in range(len(store))])
    except BaseException as error:  # it would be lost with the process
        answers.put(f"{type(error).__name__}: {error}")
