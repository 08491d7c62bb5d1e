"""The data set of the quickstart: drawn on first use, the same everywhere, nothing to download."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolo.core.errors import UsageError, YoloError
from yolo.core.home import yolo_home
from yolo.data.config import DataConfig
from yolo.data.labels import LabelTable
from yolo.data.shapes import SHAPES, draw_scene
from yolo.data.types import Targets

_log = logging.getLogger("yolo.data")

#: Goes up whenever other pictures are drawn, so that an old folder is not taken for a new one.
VERSION = 1
_SPLITS = ("train", "val")
_SEED = 20240
_CARD = "synthetic.json"
_QUALITY = 95


def ensure_synthetic(root: str | Path | None = None, *, train: int = 320, val: int = 80, image_size: int = 160) -> Path:
    """Return the folder of the data set, drawing it first where it is not there.

    The pictures lie in ``images/{train,val}``; the labels beside them in both layouts: ``annotations/instances_*.json``
    (COCO) and ``labels/*``, ``data.yaml`` (YOLO). The folder appears complete or not at all.

    Args:
        root: folder to use; None for one in :func:`~yolo.core.home.yolo_home` that is named after the other arguments.
        train: number of training images.
        val: number of validation images.
        image_size: side of the square images, pixels.

    Raises:
        UsageError: a number is too small.
        YoloError: ``root`` holds something else, or cannot be written.
    """
    if train < 1 or val < 1 or image_size < 32:
        raise UsageError("a synthetic data set needs 1 image or more in each split, of 32 pixels or more")
    card = {"version": VERSION, "train": train, "val": val, "image_size": image_size}
    name = f"synthetic-v{VERSION}-{train}-{val}-{image_size}"
    folder = (yolo_home() / "datasets" / name if root is None else Path(root).expanduser()).absolute()
    if _is_drawn(folder, card):
        return folder
    _log.info("Drawing %d + %d synthetic images into %s", train, val, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        draft.chmod(0o755)
    except OSError as error:
        raise YoloError(f"cannot write {folder}: {error.strerror}; set YOLO_HOME to a folder that can") from error
    try:
        _draw(draft, {"train": train, "val": val}, image_size)
        (draft / _CARD).write_text(json.dumps(card) + "\n", encoding="utf-8")
        _publish(draft, folder, card)
    except OSError as error:
        raise YoloError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def load_synthetic(config: DataConfig, split: str) -> LabelTable:
    """Read a split of the synthetic data set; the format ``synthetic``, which needs no ``data.root``.

    Args:
        config: ``root`` is used when it is not the default one.
        split: ``train`` or ``val``; ``test`` is ``val``.
    """
    from yolo.data.formats.coco import load_coco

    root = None if config.root == DataConfig.root else config.root
    folder = ensure_synthetic(root)
    return load_coco(replace(config, root=str(folder), format="coco"), "val" if split == "test" else split)


def _is_drawn(folder: Path, card: dict[str, int]) -> bool:
    """Whether the data set is there; an error when something else is."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != card:
        raise YoloError(f"{folder} holds something else than this synthetic data set: remove it or use another folder")
    return True


def _publish(draft: Path, folder: Path, card: dict[str, int]) -> None:
    """Give a finished folder its name; whoever else drew the same meanwhile has done no harm."""
    try:
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except OSError:
        if not _is_drawn(folder, card):
            raise


def _draw(folder: Path, counts: dict[str, int], size: int) -> None:
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(SHAPES))
    text = f"train: images/train\nval: images/val\nnc: {len(SHAPES)}\nnames:\n{names}"
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    (folder / "annotations").mkdir()
    for number, split in enumerate(_SPLITS):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        document: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(SHAPES)],
        }
        for index in range(counts[split]):
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([_SEED, number, index])))
            image, targets = draw_scene(rng, size)
            stem = f"{split}_{index:05d}"
            _write_jpeg(folder / "images" / split / f"{stem}.jpg", image)
            (folder / "labels" / split / f"{stem}.txt").write_text(_yolo_text(targets, size), encoding="utf-8")
            _add(document, f"{stem}.jpg", targets, size)
        path = folder / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(document), encoding="utf-8")


def _write_jpeg(path: Path, image: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    path.write_bytes(data.tobytes())


def _yolo_text(targets: Targets, size: int) -> str:
    lines = []
    for label, (x0, y0, x1, y1) in zip(targets.labels.tolist(), targets.boxes.tolist(), strict=True):
        row = ((x0 + x1) / 2 / size, (y0 + y1) / 2 / size, (x1 - x0) / size, (y1 - y0) / size)
        lines.append(" ".join([str(label), *(f"{value:.8f}" for value in row)]) + "\n")
    return "".join(lines)


def _add(document: dict[str, list[dict[str, Any]]], name: str, targets: Targets, size: int) -> None:
    """Append an image and its boxes to a COCO document."""
    image_id = len(document["images"]) + 1
    document["images"].append({"id": image_id, "file_name": name, "width": size, "height": size})
    for label, (x0, y0, x1, y1) in zip(targets.labels.tolist(), targets.boxes.tolist(), strict=True):
        document["annotations"].append(
            {
                "id": len(document["annotations"]) + 1,
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
        )
