"""Everything that the labels of a split are parsed from, and a digest that changes when any of it changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError
from yolo.core.images import IMAGE_SUFFIXES
from yolo.core.plugins import resolve
from yolo.data.config import DataConfig
from yolo.data.formats.coco import coco_paths
from yolo.data.formats.report import Report
from yolo.data.formats.scan import image_files
from yolo.data.formats.split_file import read_list
from yolo.data.formats.yolo_layout import find_data_yaml, label_path, list_split, split_sources
from yolo.data.loaders import DefaultImageLoader, ImageLoader
from yolo.data.version import __version__

_CHUNK = 1024


@dataclass(frozen=True)
class Facts:
    """What files looked like.

    Attributes:
        digest: over their paths, sizes and times, in hex.
        newest: latest change of any of them, nanoseconds (``st_ctime_ns``).
    """

    digest: str
    newest: int


def inputs(config: DataConfig, split: str) -> list[str]:
    """Return the files that the labels of a split depend on: annotations, lists, descriptions, label files and images.

    The images that only a COCO json names are not among them, see :func:`image_facts`. More files than the parser reads
    may be: a change of one of those parses once too often, and nothing worse.

    Raises:
        YoloError: something is not there; the parser says the same.
        KeyError: nothing is known about what this format reads.
    """
    return _INPUTS[config.format](config, split)


def input_facts(config: DataConfig, split: str) -> Facts:
    """Return the facts of :func:`inputs` together with the configuration and the version of the parser.

    Raises:
        YoloError: as :func:`inputs`.
    """
    files = [os.fsencode(path) for path in inputs(config, split)]
    described = {
        "version": __version__,
        "parser": _parser_digest(),
        "format": config.format,
        "split": split,
        "num_classes": config.num_classes,
        "loader": loader_class(config).__qualname__,
        **{kind: _shown(config, kind, split) for kind in ("images", "ann", "labels", "split")},
    }
    return _facts(sorted(files), described, config)


def image_facts(config: DataConfig, images: Sequence[bytes]) -> Facts:
    """Return the facts of the images of a table, in its order; nothing for a format whose inputs have them all."""
    if config.format != "coco":
        return Facts("", 0)
    return _facts(images, {}, config)


def loader_class(config: DataConfig) -> type[ImageLoader]:
    """Return the class of ``data.image_loader``, without making one; ImageLoader where it names none."""
    value = config.image_loader
    if value is None:
        return DefaultImageLoader
    if isinstance(value, dict):
        value = {key: value[key] for key in ("class_path", "use") if key in value}
    try:
        target, _ = resolve("image_loaders", value)
    except YoloError:
        return ImageLoader  # the parser says what is wrong with it
    return target if isinstance(target, type) and issubclass(target, ImageLoader) else ImageLoader


def root_of(config: DataConfig) -> str:
    """The folder that paths in a label cache are relative to."""
    return os.path.normpath(config.folder)


def _coco(config: DataConfig, split: str) -> list[str]:
    folder, annotations = coco_paths(config, split)
    listing = config.path("split", split)
    if listing is None:
        return [str(annotations)]
    chosen = read_list(listing, folders=[folder], report=Report(listing))
    return [str(annotations), str(listing), *chosen, *image_files(folder)]


def _yolo(config: DataConfig, split: str) -> list[str]:
    unheard = Report(config.root)
    yaml = find_data_yaml(config, unheard)
    sources = split_sources(config, split, yaml)
    described = [yaml.path] if yaml is not None else []
    files = [str(path) for path in (*described, config.folder / "classes.json", *sources.lists)]
    if sources.lists:
        listing = list_split(config, split, yaml, unheard)
        return [*files, *listing.images, *filter(None, listing.labels)]
    labels: set[str] = set()
    for folder in sources.whole:
        images = _below(str(folder), IMAGE_SUFFIXES)
        for place, names in images.items():
            files += names
            example = label_path(f"{place}{os.sep}a.jpg", sources.folders, config.path("labels", split))
            labels.add(os.path.dirname(example))  # noqa: PTH120  # text in, text out
    for place in labels:
        files += _below(place, {".txt"}, deep=False).get(place, [])
    return files


_INPUTS: Mapping[str, Callable[[DataConfig, str], list[str]]] = {"coco": _coco, "yolo": _yolo}
#: The formats of which everything that they read is known. A plugin's may read anything: it is always parsed.
KNOWN_FORMATS = frozenset(_INPUTS)


def _below(folder: str, suffixes: Collection[str], *, deep: bool = True) -> dict[str, list[str]]:
    """Paths with one of these suffixes, by the folder they are in. Quicker than asking what each of them is."""
    found: dict[str, list[str]] = {}
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                names = []
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting += [entry.path] if deep else []
                    elif entry.name[entry.name.rfind(".") :].lower() in suffixes:
                        names.append(entry.path)
        except OSError:  # the parser says what is wrong with it
            continue
        if names:
            found[place] = names
    return found


def _facts(files: Sequence[bytes], described: Mapping[str, object], config: DataConfig) -> Facts:
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(8) as pool:  # for folders on a network, where each answer takes a while
        parts = list(pool.map(_look, chunks))
    table = np.concatenate([np.zeros((0, 3), np.int64), *parts])
    start = b"\0" + os.fsencode(root_of(config) + os.sep)
    names = b"\0".join([b"", *files]).replace(start, b"\0")  # relative, so that a data set may be moved
    digest = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=32)
    digest.update(len(names).to_bytes(8, "little") + names)
    digest.update(table.tobytes())
    return Facts(digest.hexdigest(), int(table[:, 2].max(initial=0)))


def _look(files: Sequence[bytes]) -> NDArray[np.int64]:
    rows = []
    for path in files:
        try:
            facts = os.stat(path)  # noqa: PTH116  # hot
            rows.append((facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
        except OSError:
            rows.append((-1, -1, -1))
    return np.array(rows, np.int64)


def _shown(config: DataConfig, kind: str, split: str) -> str | None:
    path = config.path(kind, split)
    if path is None:
        return None
    return ascii(os.path.normpath(path).removeprefix(root_of(config) + os.sep))


@cache
def _parser_digest() -> str:
    """Digest of the code that reads labels, so that a changed parser parses again whatever its version says."""
    folder = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted([folder / "labels.py", *folder.glob("formats/*.py"), *folder.glob("loaders/*.py")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
