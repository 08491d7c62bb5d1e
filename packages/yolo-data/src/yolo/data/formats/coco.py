"""The COCO json format."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError
from yolo.data.config import DataConfig
from yolo.data.formats import kinds
from yolo.data.formats.coco_boxes import CocoBoxes, read_boxes
from yolo.data.formats.coco_records import CocoImages, entries, image_ids, read_categories, read_images
from yolo.data.formats.coco_repair import repair_boxes
from yolo.data.formats.json_file import read_json_object
from yolo.data.formats.report import DataError, Place, Report, show
from yolo.data.formats.sizes import read_sizes
from yolo.data.formats.split_file import read_list
from yolo.data.formats.usable import usable_images
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader, open_loader
from yolo.data.packed import PackedStrings


def load_coco(config: DataConfig, split: str, *, report: Report | None = None) -> LabelTable:
    """Read one split of a COCO data set.

    Classes are numbered by ascending category id, whatever order and gaps the file has. Crowd annotations are kept for
    the evaluator and left out of the training targets.

    Args:
        config: the ``data:`` section.
        split: ``train``, ``val`` or ``test``.
        report: a collecting one takes what cannot be used, and the table is what is left.

    Raises:
        YoloError: naming the file, and the entry, of the first thing that cannot be used.
    """
    folder, annotations = coco_paths(config, split)
    where = Place(str(annotations))
    report = report or Report(annotations)
    loader = open_loader(config.image_loader, encryption_key=config.encryption_key)
    document = read_json_object(annotations)
    category_ids, names = read_categories(entries(document, "categories", where), where, report)
    extra = loader.extra_suffixes
    images = read_images(
        entries(document, "images", where), where, folder, report, must_exist=loader.needs_files, extra=extra
    )
    boxes = read_boxes(entries(document, "annotations", where), where, images, category_ids, report)
    del document
    sizes = _sizes(images, loader, where, report)
    boxes = repair_boxes(boxes, sizes, where, report)
    if not len(boxes.owner):
        report.add(kinds.NO_BOXES, where, count=len(images.ids))
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
    if report.collect:
        report.images = images.paths
        report.locate = _locator(table, boxes, order, where)
    table = usable_images(table)
    listing = config.path("split", split)
    return table if listing is None else _listed(table, listing, folder, extra, report)


def _locator(table: LabelTable, boxes: CocoBoxes, order: NDArray[np.intp], where: Place) -> Callable[[str, int], Place]:
    starts = dict(zip(table.paths, table.offsets.tolist(), strict=False))

    def locate(path: str, box: int) -> Place:
        index = int(order[starts[path] + box])
        return where._replace(
            what=f"annotation {boxes.names[index]}", entry=("annotations", int(boxes.positions[index]))
        )

    return locate


def coco_paths(config: DataConfig, split: str) -> tuple[Path, Path]:
    """Absolute image folder and annotation file of a split.

    Raises:
        YoloError: one is not there; the message names the key and the path.
    """
    folder = config.path("images", split) or config.folder / "images" / split
    annotations = config.path("ann", split) or config.folder / "annotations" / f"instances_{split}.json"
    for key, path, there in (("ann", annotations, annotations.is_file()), ("images", folder, folder.is_dir())):
        if not there:
            raise YoloError(f"data.{split}_{key}: {show(path)} does not exist; set data.root or data.{split}_{key}")
    return Path(os.path.normpath(folder)), annotations


def _sizes(images: CocoImages, loader: ImageLoader, where: Place, report: Report) -> NDArray[np.int32]:
    """Sizes from the files; the json's own where the loader fetches images from elsewhere."""
    local = list(range(len(images.paths)))
    if not loader.needs_files:
        local = [i for i in local if images.sizes[i] is None or Path(images.paths[i]).is_file()]
    sizes = np.array([size or (0, 0) for size in images.sizes], np.int32).reshape(-1, 2)
    actual = read_sizes([images.paths[i] for i in local], loader, report)

    def describe(item: int) -> tuple[Place, str]:
        index, (width, height) = local[item], actual[item]
        stated = images.sizes[index]
        text = "no size" if stated is None else f"{stated[0]}x{stated[1]}"
        place = where._replace(what=f"image {images.ids[index]}", entry=("images", images.positions[index]))
        return place, f"{show(images.names[index])}: {text}, file {width}x{height}"

    wrong = (sizes[local] != actual).any(axis=1) & actual.any(axis=1)
    report.add_each(kinds.WRONG_SIZE, np.flatnonzero(wrong).tolist(), describe)
    sizes[local] = actual
    return sizes


def _listed(table: LabelTable, listing: Path, folder: Path, extra: Collection[str], report: Report) -> LabelTable:
    """The part of a table that a list file names."""
    own = report if report.collect else Report(listing)
    positions = {path: index for index, path in enumerate(table.paths)}
    chosen = []
    for path in read_list(listing, folders=[folder], report=own, extra=extra):
        if path in positions:
            chosen.append(positions[path])
        else:
            own.refuse(DataError("missing-entry", Place(str(listing)), f"{show(path)} is not in the annotation file"))
    own.warn()
    return table.select(np.array(chosen, np.intp))
