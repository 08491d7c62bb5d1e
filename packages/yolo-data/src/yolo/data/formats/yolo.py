"""The YOLO txt format: one text file an image, ``class cx cy w h`` as fractions of the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from yolo.data.config import DataConfig
from yolo.data.formats import kinds
from yolo.data.formats.report import Place, Report
from yolo.data.formats.sizes import read_sizes
from yolo.data.formats.textfile import read_bytes
from yolo.data.formats.usable import usable_images
from yolo.data.formats.yolo_labels import LARGEST, describe_missing, read_labels
from yolo.data.formats.yolo_layout import Listing, class_names, find_data_yaml, list_split
from yolo.data.formats.yolo_lines import numbered_rows
from yolo.data.labels import LabelTable
from yolo.data.loaders import open_loader
from yolo.data.packed import PackedStrings


def load_yolo(config: DataConfig, split: str, *, report: Report | None = None) -> LabelTable:
    """Read one split of a YOLO data set.

    Image ids are the positions in the split, category ids are the class indices.

    Args:
        config: the ``data:`` section.
        split: ``train``, ``val`` or ``test``.
        report: a collecting one takes what cannot be used, and the table is what is left.

    Raises:
        YoloError: naming the file, and the line or key, of the first thing that cannot be used.
    """
    if report is None:
        report = Report(f"{config.root} ({split})")
    yaml = find_data_yaml(config, report)
    names = class_names(config, yaml, report)
    loader = open_loader(config.image_loader, encryption_key=config.encryption_key)
    listing = list_split(config, split, yaml, report, extra=loader.extra_suffixes)
    describe_missing(listing.images, listing.labels, listing.expected, report)
    counts, rows = read_labels(listing.labels, names, report)
    sizes = read_sizes(listing.images, loader, report)
    if not len(rows):
        report.add(kinds.NO_BOXES, Place(str(config.folder)), split, count=len(listing.images))
    report.warn()

    scale = np.repeat(sizes, counts, axis=0).astype(np.float64)
    centre, half = rows[:, 1:3], rows[:, 3:5] / 2
    low = np.clip((centre - half) * scale, 0, scale)
    high = np.clip((centre + half) * scale, 0, scale)
    table = LabelTable(
        class_names=names,
        category_ids=tuple(range(len(names))),
        paths=PackedStrings.pack(listing.images),
        sizes=sizes,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.concatenate([low, high], axis=1).astype(np.float32),
        labels=rows[:, 0].astype(np.int64),
        crowd=np.zeros(len(rows), np.bool_),
        area=np.prod(high - low, axis=1).astype(np.float32),
        image_ids=np.arange(len(sizes), dtype=np.int64),
    )
    if report.collect:
        report.images = listing.images
        report.locate = _locator(listing, names)
    return usable_images(table)


def _locator(listing: Listing, names: tuple[str, ...]) -> Callable[[str, int], Place]:
    files = dict(zip(listing.images, listing.labels, strict=True))

    @lru_cache(maxsize=16)
    def lines(file: str) -> list[int]:
        data = read_bytes(file, limit=LARGEST)
        return [line for line, _ in numbered_rows(data, file, names, Report(file, collect=True))]

    def locate(path: str, box: int) -> Place:
        file = files[path]
        return Place(path) if file is None else Place(file, lines(file)[box])

    return locate
