"""The three lists of a COCO json, checked entry by entry."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yolo.data.encryption.container import SUFFIX
from yolo.data.encryption.names import stored_file
from yolo.data.formats.names import clean_name, refuse_twins
from yolo.data.formats.report import DataError, Place, Report, brief, excerpt, show

Entries = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class CocoImages:
    """The images of a json.

    Attributes:
        ids: as in the file, integers or texts, unique.
        names: file names as in the file, unique.
        paths: absolute paths.
        sizes: (width, height) as in the file, None where missing or not positive.
        positions: in the list of the file.
        refused: ids of the images that were left out by a collecting report.
    """

    ids: list[int | str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    refused: set[int | str] = field(default_factory=set)


def entries(document: Mapping[str, Any], key: str, where: Place) -> Entries:
    """Return the list of objects under a key, or raise DataError naming file and key."""
    if key not in document:
        raise DataError("bad-json", where, f"the key `{key}` is missing")
    value = document[key]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError("bad-json", where, f"`{key}` must be a list of objects")
    return value


def read_categories(records: Entries, where: Place, report: Report) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return category ids in ascending order, and the class names in the same order."""
    if not records:
        raise DataError("class-names", where, "`categories` is empty: there are no classes")
    named: dict[int, str] = {}
    for position, record in enumerate(records):
        number = record.get("id")
        if isinstance(number, bool) or not isinstance(number, int):
            place = where._replace(what=f"categories[{position}]", entry=("categories", position))
            raise DataError("class-names", place, f"id {brief(number)} is not a whole number")
        place = where._replace(what=f"category {number}", entry=("categories", position))
        if "name" not in record:
            raise DataError("class-names", place, "there is no name")
        name = clean_name(record["name"], f"class {number}", where=place, report=report)
        if number in named:
            place = place._replace(what=f"category id {number}")
            raise DataError("class-names", place, f"it occurs twice: {excerpt(named[number])} and {excerpt(name)}")
        named[number] = name
    ids = tuple(sorted(named))
    names = tuple(named[number] for number in ids)
    refuse_twins(names, where=where)
    return ids, names


def read_images(
    records: Entries, where: Place, folder: Path, report: Report, *, must_exist: bool, extra: Collection[str] = ()
) -> CocoImages:
    """Check the images and find their files below ``folder``.

    With ``extra`` suffixes (``ImageLoader.extra_suffixes``) the file name ``a.jpg`` also finds ``a.jpg.enc``.

    Raises:
        DataError: naming file and entry; a collecting report takes it, and the image is left out.
    """
    if not records:
        raise DataError("empty-split", where, "`images` is empty: there is nothing to load")
    images = CocoImages()
    by_id: dict[int | str, str] = {}
    seen: dict[str, int | str] = {}
    for position, record in enumerate(records):
        number, name = record.get("id"), record.get("file_name")
        try:
            if isinstance(number, bool) or not isinstance(number, int | str):
                place = where._replace(what=f"images[{position}]", entry=("images", position))
                raise DataError("bad-entry", place, f"({excerpt(str(name))}) there is no usable id")
            place = where._replace(what=f"image {number}", entry=("images", position))
            if not isinstance(name, str) or not name or "\0" in name:
                raise DataError("bad-entry", place, "there is no file_name")
            if number in by_id:
                place = place._replace(what=f"image id {number}")
                text = f"it occurs twice: {excerpt(by_id[number])} and {excerpt(name)}"
                raise DataError("duplicate-id", place, text)
            path = _image_path(name, folder, place, must_exist=must_exist, extra=extra)
            if path in seen:
                text = f"it is the same file as image {seen[path]}: {excerpt(name)}"
                raise DataError("duplicate-entry", place, text)
        except DataError as error:
            report.refuse(error)
            if isinstance(number, int | str) and number not in by_id:
                images.refused.add(number)
            continue
        by_id[number] = name
        seen[path] = number
        images.ids.append(number)
        images.names.append(name)
        images.paths.append(path)
        images.sizes.append(_stated_size(record))
        images.positions.append(position)
    if not images.ids:
        raise DataError("empty-split", where, "not one image can be used")
    return images


def _image_path(name: str, folder: Path, where: Place, *, must_exist: bool, extra: Collection[str]) -> str:
    path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118  # hot
    if not path.startswith(f"{folder}{os.sep}"):
        text = f"{show(name)} lies outside the image folder {show(folder)}{_hint(name, folder)}"
        raise DataError("missing-image", where, text)
    stored = stored_file(path, extra)
    if stored is not None:
        return stored
    if must_exist:
        if os.path.lexists(path):
            raise DataError("missing-image", where, f"{show(path)} is not a readable file")
        raise DataError("missing-image", where, f"{show(path)} does not exist{_hint(name, folder)}")
    return path


def _hint(name: str, folder: Path) -> str:
    if ".." in name:
        return ""
    if stored_file(os.path.join(folder, name), {SUFFIX}) is not None:  # noqa: PTH118  # as above
        return "; it is there encrypted: set data.image_loader: encrypted"
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
