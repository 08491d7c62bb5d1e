"""The three lists of a COCO json, checked entry by entry."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo.core.errors import YoloError
from yolo.data.formats.names import clean_name, refuse_twins
from yolo.data.formats.report import Report, brief, excerpt, show

Entries = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class CocoImages:
    """The images of a json.

    Attributes:
        ids: as in the file, integers or texts, unique.
        names: file names as in the file, unique.
        paths: absolute paths.
        sizes: (width, height) as in the file, None where missing or not positive.
    """

    ids: list[int | str]
    names: list[str]
    paths: list[str]
    sizes: list[tuple[int, int] | None]


def entries(document: Mapping[str, Any], key: str, where: str) -> Entries:
    """Return the list of objects under a key, or raise YoloError naming file and key."""
    if key not in document:
        raise YoloError(f"{where}: the key `{key}` is missing")
    value = document[key]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise YoloError(f"{where}: `{key}` must be a list of objects")
    return value


def read_categories(records: Entries, where: str, report: Report) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return category ids in ascending order, and the class names in the same order."""
    if not records:
        raise YoloError(f"{where}: `categories` is empty: there are no classes")
    named: dict[int, str] = {}
    for position, record in enumerate(records):
        number = record.get("id")
        if isinstance(number, bool) or not isinstance(number, int):
            raise YoloError(f"{where}: categories[{position}]: id {brief(number)} is not a whole number")
        if "name" not in record:
            raise YoloError(f"{where}: category {number} has no name")
        place = f"{where}: category {number}"
        name = clean_name(record["name"], f"class {number}", where=place, report=report)
        if number in named:
            raise YoloError(f"{where}: category id {number} occurs twice: {excerpt(named[number])} and {excerpt(name)}")
        named[number] = name
    ids = tuple(sorted(named))
    names = tuple(named[number] for number in ids)
    refuse_twins(names, where=where)
    return ids, names


def read_images(records: Entries, where: str, folder: Path, *, must_exist: bool) -> CocoImages:
    """Check the images and find their files below ``folder``."""
    if not records:
        raise YoloError(f"{where}: `images` is empty: there is nothing to load")
    images = CocoImages([], [], [], [])
    by_id: dict[int | str, str] = {}
    seen: dict[str, int | str] = {}
    for position, record in enumerate(records):
        number, name = record.get("id"), record.get("file_name")
        if isinstance(number, bool) or not isinstance(number, int | str):
            raise YoloError(f"{where}: images[{position}] ({excerpt(str(name))}) has no usable id")
        if not isinstance(name, str) or not name or "\0" in name:
            raise YoloError(f"{where}: image {number} has no file_name")
        if number in by_id:
            raise YoloError(f"{where}: image id {number} occurs twice: {excerpt(by_id[number])} and {excerpt(name)}")
        path = _image_path(name, folder, f"{where}: image {number}", must_exist=must_exist)
        if path in seen:
            raise YoloError(f"{where}: images {seen[path]} and {number} are the same file {excerpt(name)}")
        by_id[number] = name
        seen[path] = number
        images.ids.append(number)
        images.names.append(name)
        images.paths.append(path)
        images.sizes.append(_stated_size(record))
    return images


def _image_path(name: str, folder: Path, where: str, *, must_exist: bool) -> str:
    path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118  # hot
    if not path.startswith(f"{folder}{os.sep}"):
        raise YoloError(f"{where}: {show(name)} lies outside the image folder {show(folder)}{_hint(name, folder)}")
    if must_exist and not os.path.isfile(path):  # noqa: PTH113  # hot
        if os.path.lexists(path):
            raise YoloError(f"{where}: {show(path)} is not a readable file")
        raise YoloError(f"{where}: {show(path)} does not exist{_hint(name, folder)}")
    return path


def _hint(name: str, folder: Path) -> str:
    if ".." in name:
        return ""
    base = name.replace("\\", "/").rpartition("/")[2]
    if base and base != name and (folder / base).is_file():
        return f"; there is a {show(base)} in the image folder: correct file_name"
    if (folder.parent / name).is_file():
        return f"; it exists below {show(folder.parent)}: set that as the image folder"
    return ""


def _stated_size(record: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = record.get("width"), record.get("height")
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in (width, height))
    return (int(width), int(height)) if whole and width is not None and height is not None else None


def image_ids(ids: Sequence[int | str]) -> tuple[np.ndarray, list[int | str] | None]:
    """Return int64 ids for the table, and the original ids when those are not 64-bit integers."""
    limit = np.iinfo(np.int64)
    if all(isinstance(number, int) and limit.min <= number <= limit.max for number in ids):
        return np.array(ids, np.int64), None
    return np.arange(1, len(ids) + 1, dtype=np.int64), list(ids)
