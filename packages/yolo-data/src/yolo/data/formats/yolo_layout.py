"""Where a YOLO data set keeps the images, the labels and the class names of a split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yolo.core.errors import YoloError
from yolo.data.config import DataConfig
from yolo.data.encryption.container import SUFFIX
from yolo.data.encryption.names import image_stem
from yolo.data.formats import kinds
from yolo.data.formats.data_yaml import DataYaml, read_data_yaml
from yolo.data.formats.names import read_classes_json
from yolo.data.formats.report import Place, Report, show
from yolo.data.formats.scan import image_files
from yolo.data.formats.split_file import read_list

#: Folders that are tried, in this order, for a split that neither the configuration nor data.yaml describes.
DEFAULT_IMAGES = {
    "train": ("train/images", "images/train"),
    "val": ("valid/images", "val/images", "images/val"),
    "test": ("test/images", "images/test"),
}
#: List file that is tried after the folders, for a data set with one images folder for all splits.
DEFAULT_LIST = "{split}.txt"


@dataclass(frozen=True)
class Listing:
    """Images of a split and the label file that belongs to each.

    Attributes:
        images: absolute paths.
        expected: where each label file should be.
        labels: where each label file is, None when there is none.
    """

    images: list[str]
    expected: list[str]
    labels: list[str | None]


def find_data_yaml(config: DataConfig, report: Report) -> DataYaml | None:
    """Read the data.yaml that ``data.root`` names, or that lies in that folder."""
    root = Path(config.root).expanduser().absolute()
    if root.suffix.lower() in (".yaml", ".yml"):
        return read_data_yaml(root, report)
    if not root.is_dir():
        raise YoloError(f"data.root: {show(root)} does not exist or is not a folder")
    for name in ("data.yaml", "data.yml"):
        if (root / name).is_file():
            return read_data_yaml(root / name, report)
    return None


def class_names(config: DataConfig, yaml: DataYaml | None, report: Report) -> tuple[str, ...]:
    """Class names from data.yaml, else from classes.json, else ``class0 ...`` for ``data.num_classes`` classes."""
    if yaml is not None and yaml.names is not None:
        return yaml.names
    path = config.folder / "classes.json"
    if path.is_file():
        return read_classes_json(path, report)
    if config.num_classes is not None:
        report.add(kinds.MISSING_NAMES, Place(str(path)), count=config.num_classes)
        return tuple(f"class{index}" for index in range(config.num_classes))
    raise YoloError(
        f"{show(config.folder)}: no class names: add a data.yaml with `names`, or classes.json, or set data.num_classes"
    )


def list_split(
    config: DataConfig, split: str, yaml: DataYaml | None, report: Report, *, extra: Collection[str] = ()
) -> Listing:
    """Find the images of a split and their label files.

    ``extra``: more suffixes that are images (``ImageLoader.extra_suffixes``).

    Raises:
        YoloError: nothing is there; the message names the absolute paths that were tried.
    """
    sources = split_sources(config, split, yaml)
    images: list[str] = []
    for path in sources.lists:
        images += read_list(path, folders=sources.folders, report=report, extra=extra)
    for folder in sources.whole:
        images += image_files(folder, extra=extra)
    unique = list(dict.fromkeys(images))
    if len(unique) != len(images):
        first = str((*sources.lists, *sources.whole)[0])
        report.add(kinds.LISTED_TWICE, Place(first), count=len(images) - len(unique))
    if not unique:
        raise YoloError(f"{show(sources.whole[0])}: there are no images in this folder{_encrypted(sources.whole[0])}")
    label_folder = config.path("labels", split)
    if label_folder is not None and not label_folder.is_dir():
        raise YoloError(f"data.{split}_labels: {show(label_folder)} does not exist or is not a folder")
    expected = [label_path(image, sources.folders, label_folder, extra=extra) for image in unique]
    labels = _existing(expected, report, count_orphans=not sources.lists)
    return Listing(unique, expected, labels)


def label_path(image: str, folders: Sequence[Path], label_folder: Path | None, *, extra: Collection[str] = ()) -> str:
    """Where the label file of an image should be.

    With a labels folder: at the same place below it as the image has below its images folder. Without: the last
    ``images`` in the image's path becomes ``labels``; an image that has none keeps its labels beside it.
    """
    stem = image_stem(image, extra) + ".txt"
    if label_folder is not None:
        for folder in folders:
            if stem.startswith(f"{folder}{os.sep}"):
                return f"{label_folder}{stem[len(str(folder)) :]}"
        return f"{label_folder}{os.sep}{os.path.basename(stem)}"  # noqa: PTH119  # hot
    before, found, after = stem.rpartition(f"{os.sep}images{os.sep}")
    return f"{before}{os.sep}labels{os.sep}{after}" if found else stem


class Sources(NamedTuple):
    """Where the images of a split come from, absolute and existing.

    Attributes:
        whole: folders of which every image is used.
        lists: list files.
        folders: where names of the lists are looked for, and what label paths are relative to.
    """

    whole: Sequence[Path]
    lists: Sequence[Path] = ()
    folders: Sequence[Path] = ()


def split_sources(config: DataConfig, split: str, yaml: DataYaml | None) -> Sources:
    """Find the folders and list files of a split.

    Raises:
        YoloError: there are none; the message names the absolute paths that were tried.
    """
    folder, listing = config.path("images", split), config.path("split", split)
    if listing is not None and not listing.is_file():
        raise YoloError(f"data.{split}_split: {show(listing)} does not exist")
    if folder is not None:
        if not folder.is_dir():
            raise YoloError(f"data.{split}_images: {show(folder)} does not exist or is not a folder")
        folders = [_plain(folder)]
        return Sources([], [listing], folders) if listing else Sources(folders, folders=folders)
    if listing is not None:
        return Sources([], [listing], _listed_below(config.folder))
    if yaml is not None and split in yaml.sources:
        found = yaml.resolve(split)
        folders = [_plain(path) for path in found if path.is_dir()]
        return Sources(folders, [path for path in found if not path.is_dir()], folders)
    tried = [config.folder / name for name in DEFAULT_IMAGES[split]]
    for path in tried:
        if path.is_dir():
            return Sources([_plain(path)], folders=[_plain(path)])
    usual = config.folder / DEFAULT_LIST.format(split=split)
    if usual.is_file():
        return Sources([], [usual], _listed_below(config.folder))
    if yaml is not None:
        yaml.resolve(split)  # raises: the file does not name the split
    raise YoloError(
        f"no {split} images: tried {', '.join(show(path) for path in [*tried, usual])}; "
        f"set data.{split}_images, or add data.yaml"
    )


def _encrypted(folder: Path) -> str:
    """What to do about a folder that holds encrypted images only."""
    found = next(folder.rglob(f"*{SUFFIX}"), None)
    return "" if found is None else f"; to use its {SUFFIX} files set data.image_loader: encrypted"


def _listed_below(root: Path) -> list[Path]:
    """Where the names of a list file are looked for when no images folder is given."""
    images = root / "images"
    return [_plain(path) for path in (images, root) if path.is_dir()]


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _existing(expected: Sequence[str], report: Report, *, count_orphans: bool) -> list[str | None]:
    """Look label files up in listings of their folders: far fewer calls than asking for each file."""
    listings: dict[str, dict[str, str]] = {}
    found: list[str | None] = []
    for path in expected:
        folder, name = os.path.split(path)  # hot
        if folder not in listings:
            listings[folder] = _texts(folder)
        actual = listings[folder].get(name)
        if actual is not None and actual != name:
            report.add(kinds.UPPER_CASE, Place(f"{folder}{os.sep}{actual}"))
        found.append(None if actual is None else f"{folder}{os.sep}{actual}")
    for path, count in Counter(filter(None, found)).items():
        if count > 1:
            report.add(kinds.SHARED_LABEL, Place(path))
    if count_orphans:
        wanted = set(expected)
        orphans = [f"{at}{os.sep}{name}" for at, names in listings.items() for name in names]
        orphans = [path for path in orphans if path not in wanted and not path.endswith(f"{os.sep}classes.txt")]
        orphans.sort()
        report.add_each(kinds.ORPHAN_LABEL, range(len(orphans)), lambda i: (Place(orphans[i]), ""))
    return found


def _texts(folder: str) -> dict[str, str]:
    """Names of the ``.txt`` files of a folder, in any case of the suffix, keyed by the name in lower-case suffix."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  # hot, and names only
    except OSError:
        return {}
    return {name[:-4] + ".txt": name for name in sorted(names) if name[-4:].lower() == ".txt"}
