"""The YOLO txt format: one text file an image, ``class cx cy w h`` as fractions of the image."""

from __future__ import annotations

import numpy as np

from yolo.data.config import DataConfig
from yolo.data.formats.report import Report, show
from yolo.data.formats.sizes import read_sizes
from yolo.data.formats.yolo_labels import describe_missing, read_labels
from yolo.data.formats.yolo_layout import class_names, find_data_yaml, list_split
from yolo.data.labels import LabelTable
from yolo.data.loaders import open_loader
from yolo.data.packed import PackedStrings


def load_yolo(config: DataConfig, split: str) -> LabelTable:
    """Read one split of a YOLO data set.

    Image ids are the positions in the split, category ids are the class indices.

    Raises:
        YoloError: naming the file, and the line or key, of the first thing that cannot be used.
    """
    report = Report(f"{config.root} ({split})")
    yaml = find_data_yaml(config, report)
    names = class_names(config, yaml, report)
    listing = list_split(config, split, yaml, report)
    describe_missing(listing.labels, listing.expected, report)
    counts, rows = read_labels(listing.labels, names, report)
    sizes = read_sizes(listing.images, open_loader(config.image_loader))
    if not len(rows):
        report.add("images, and not one box", show(listing.images[0]), len(listing.images))
    report.warn()

    scale = np.repeat(sizes, counts, axis=0).astype(np.float64)
    centre, half = rows[:, 1:3], rows[:, 3:5] / 2
    low = np.clip((centre - half) * scale, 0, scale)
    high = np.clip((centre + half) * scale, 0, scale)
    return LabelTable(
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
