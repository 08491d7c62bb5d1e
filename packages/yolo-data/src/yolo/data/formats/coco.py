"""The COCO json format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError
from yolo.data.config import DataConfig
from yolo.data.formats.coco_boxes import read_boxes, repair_boxes
from yolo.data.formats.coco_records import CocoImages, entries, image_ids, read_categories, read_images
from yolo.data.formats.json_file import read_json_object
from yolo.data.formats.report import Report, show
from yolo.data.formats.sizes import read_sizes
from yolo.data.formats.split_file import read_list
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader, open_loader
from yolo.data.packed import PackedStrings


def load_coco(config: DataConfig, split: str) -> LabelTable:
    """Read one split of a COCO data set.

    Classes are numbered by ascending category id, whatever order and gaps the file has. Crowd annotations are kept for
    the evaluator and left out of the training targets.

    Raises:
        YoloError: naming the file, and the entry, of the first thing that cannot be used.
    """
    folder, annotations = _paths(config, split)
    where = show(annotations)
    report = Report(annotations)
    loader = open_loader(config.image_loader)
    document = read_json_object(annotations)
    category_ids, names = read_categories(entries(document, "categories", where), where, report)
    images = read_images(entries(document, "images", where), where, folder, must_exist=loader.needs_files)
    boxes = read_boxes(entries(document, "annotations", where), where, images.ids, category_ids, report)
    del document
    sizes = _sizes(images, loader, where, report)
    boxes = repair_boxes(boxes, sizes, where, report)
    if not len(boxes.owner):
        report.add("images, and not one box", where, len(images.ids))
    report.warn()

    order = np.argsort(boxes.owner, kind="stable")
    counts = np.bincount(boxes.owner, minlength=len(images.ids))
    xywh = boxes.xywh[order]
    numbers, foreign = image_ids(images.ids)
    table = LabelTable(
        class_names=names,
        category_ids=category_ids,
        paths=PackedStrings.pack(images.paths),
        sizes=sizes,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32),
        labels=boxes.labels[order],
        crowd=boxes.crowd[order],
        area=boxes.area[order].astype(np.float32),
        image_ids=numbers,
        foreign_ids=None if foreign is None else PackedStrings.pack(json.dumps(number) for number in foreign),
    )
    listing = config.path("split", split)
    return table if listing is None else _listed(table, listing, folder)


def _paths(config: DataConfig, split: str) -> tuple[Path, Path]:
    """Absolute image folder and annotation file."""
    folder = config.path("images", split) or config.folder / "images" / split
    annotations = config.path("ann", split) or config.folder / "annotations" / f"instances_{split}.json"
    for key, path, there in (("ann", annotations, annotations.is_file()), ("images", folder, folder.is_dir())):
        if not there:
            raise YoloError(f"data.{split}_{key}: {show(path)} does not exist; set data.root or data.{split}_{key}")
    return Path(os.path.normpath(folder)), annotations


def _sizes(images: CocoImages, loader: ImageLoader, where: str, report: Report) -> NDArray[np.int32]:
    """Sizes from the files; the json's own where the loader fetches images from elsewhere."""
    local = list(range(len(images.paths)))
    if not loader.needs_files:
        local = [i for i in local if images.sizes[i] is None or Path(images.paths[i]).is_file()]
    sizes = np.array([size or (0, 0) for size in images.sizes], np.int32).reshape(-1, 2)
    actual = read_sizes([images.paths[i] for i in local], loader)
    wrong = np.flatnonzero((sizes[local] != actual).any(axis=1))
    if len(wrong):
        first = local[int(wrong[0])]
        stated = images.sizes[first]
        text = "no size" if stated is None else f"{stated[0]}x{stated[1]}"
        width, height = actual[int(wrong[0])]
        report.add(
            "images have another size than the json says; the file's is used",
            f"{where}: image {images.ids[first]} {show(images.names[first])}: {text}, file {width}x{height}",
            len(wrong),
        )
    sizes[local] = actual
    return sizes


def _listed(table: LabelTable, listing: Path, folder: Path) -> LabelTable:
    """The part of a table that a list file names."""
    report = Report(listing)
    positions = {path: index for index, path in enumerate(table.paths)}
    chosen = read_list(listing, folders=[folder], report=report)
    for path in chosen:
        if path not in positions:
            raise YoloError(f"{show(listing)}: {show(path)} is not in the annotation file")
    report.warn()
    return table.select(np.array([positions[path] for path in chosen], np.intp))
