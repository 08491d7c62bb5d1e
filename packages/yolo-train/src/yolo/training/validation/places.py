"""Where the data is, in the words of the old scripts: ``--coco-root``, ``--ann-file``, ``--images-dir`` and so on."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from yolo.core.errors import UsageError

Format = Literal["auto", "coco", "yolo"]


@dataclass(frozen=True, kw_only=True)
class Places:
    """What was given; paths are relative to the working folder.

    Attributes:
        coco_root: folder with ``annotations/instances_<split>2017.json`` and ``<split>2017/``.
        ann_file: COCO json; wins over ``coco_root``.
        images_dir: pictures; wins over ``coco_root``.
        labels_dir: YOLO label files.
        data_format: ``auto``: what the others tell.
    """

    coco_root: str | None = None
    ann_file: str | None = None
    images_dir: str | None = None
    labels_dir: str | None = None
    data_format: Format | None = None

    def as_data_options(self, split: str, *, given: Collection[str], typed: Collection[str]) -> list[str]:
        """Return the same as options of the ``data:`` section.

        Args:
            split: ``val`` or ``test``.
            given: keys of that section that files or the command line set.
            typed: those that the command line sets.

        Raises:
            UsageError: a path is not there, options that exclude each other, or one that needs another.
        """
        self._check_paths()
        self._check_typed(split, typed)
        layout = self._layout(known="format" in given)
        annotations, images = self.ann_file, self.images_dir
        if self.coco_root is not None:
            annotations = annotations or _inside(self.coco_root, f"annotations/instances_{split}2017.json")
            images = images or _inside(self.coco_root, f"{split}2017")
        paths = {"ann": annotations, "images": images, "labels": self.labels_dir}
        found = {f"{split}_{key}": _absolute(path) for key, path in paths.items() if path is not None}
        if found and "root" not in given:
            if images is None:
                option = "--ann-file" if self.ann_file is not None else "--labels-dir"
                raise UsageError(f"{option} alone does not say where the pictures are: add --images-dir")
            found["root"] = _absolute(self.coco_root) if self.coco_root else _root_of(images, self.labels_dir)
        if layout is not None:
            found["format"] = layout
        return [f"--data.{key}={value}" for key, value in found.items()]

    def _check_paths(self) -> None:
        for option, path in (
            ("--coco-root", self.coco_root),
            ("--images-dir", self.images_dir),
            ("--labels-dir", self.labels_dir),
        ):
            if path is not None and not Path(path).expanduser().is_dir():
                raise UsageError(f"{option} {path} does not exist or is not a folder")
        if self.ann_file is not None and not Path(self.ann_file).expanduser().is_file():
            raise UsageError(f"--ann-file {self.ann_file} does not exist or is not a file")

    def _layout(self, *, known: bool) -> str | None:
        """``coco`` or ``yolo``; None where nothing was said, or nothing more than is known."""
        coco = "--ann-file" if self.ann_file is not None else "--coco-root" if self.coco_root is not None else None
        yolo = "--labels-dir" if self.labels_dir is not None else None
        if coco and yolo:
            raise UsageError(f"{coco} is for COCO, {yolo} for YOLO labels: give one of them")
        told = None if self.data_format == "auto" else self.data_format
        for option, layout in ((coco, "coco"), (yolo, "yolo")):
            if option and told not in (None, layout):
                raise UsageError(f"{option} is for {layout} data, but --data-format is {told}: leave one of them out")
        if told or coco or yolo:
            return told or ("coco" if coco else "yolo")
        if self.images_dir is None or known:
            return None
        if _beside(self.images_dir) is None:
            raise UsageError(f"--images-dir {self.images_dir}: add --labels-dir (YOLO) or --ann-file (COCO)")
        return "yolo"

    def _check_typed(self, split: str, typed: Collection[str]) -> None:
        same = {
            "--coco-root": (self.coco_root, "root"),
            "--ann-file": (self.ann_file, f"{split}_ann"),
            "--images-dir": (self.images_dir, f"{split}_images"),
            "--labels-dir": (self.labels_dir, f"{split}_labels"),
            "--data-format": (self.data_format, "format"),
        }
        for option, (value, key) in same.items():
            if value is not None and key in typed:
                raise UsageError(f"{option} and --data.{key} say the same: give one of them")


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _inside(folder: str, name: str) -> str:
    path = Path(folder).expanduser() / name
    if not path.exists():
        raise UsageError(f"--coco-root {folder}: there is no {name} in it; give --ann-file and --images-dir instead")
    return str(path)


def _beside(images: str) -> Path | None:
    """The folder of labels that belongs to a folder of images: the last ``images`` of its path is ``labels``."""
    parts = list(Path(images).expanduser().absolute().parts)
    if "images" not in parts:
        return None
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    folder = Path(*parts)
    return folder if folder.is_dir() else None


def _root_of(images: str, labels: str | None) -> str:
    """The folder of the data set: the one that names the classes, else what images and labels have in common."""
    folder = _absolute(images)
    other = _beside(images) or folder if labels is None else _absolute(labels)
    common = Path(os.path.commonpath([folder, other]))
    for candidate in (common, common.parent):
        if any((candidate / name).is_file() for name in ("data.yaml", "data.yml", "classes.json")):
            return str(candidate)
    return str(common)
