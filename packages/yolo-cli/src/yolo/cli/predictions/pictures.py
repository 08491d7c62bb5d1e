"""Results as pictures: with boxes drawn in, or cut out one by one."""

from __future__ import annotations

import io
import os
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yolo.core.drawing import draw_detections
from yolo.core.errors import UsageError
from yolo.core.files import write_atomically
from yolo.core.predictor import Prediction
from yolo.core.results import Detections

from .names import Unique
from .sinks import Folder

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}
_QUALITY = {"JPEG": {"quality": 92}, "WEBP": {"quality": 92}}
_LARGEST_JPEG = 65500  # pixels of a side
CROPS = "crops"


class Pictures:
    """Every picture with its boxes.

    Args:
        folder: where they go.
        single: the name of the one picture, instead of its own.
    """

    def __init__(self, folder: Folder, *, single: Path | None = None) -> None:
        self._folder, self._single = folder, single
        self._unique = Unique()
        self._count = 0

    def add(self, prediction: Prediction, name: str) -> None:
        """Draw one; frames are left to the video."""
        found = prediction.detections
        if found.frame is not None:
            return
        if self._single and self._count:
            raise UsageError(f"--output {str(self._single)!r} is one picture, but there are several; give a folder")
        target = self._single or self._folder() / self._unique(drawn_name(name, found.size))
        if self._folder.is_source(target, found.path):
            raise UsageError(f"--output would overwrite the source image {str(target)!r}; give another folder")
        image = draw_detections(prediction.image, found)
        write_atomically(target, _encode(image, FORMATS[target.suffix.lower()]))
        self._count += 1

    def close(self, *, complete: bool) -> None:
        """Nothing is open."""

    def written(self) -> str | None:
        """Say where they are."""
        return f"Pictures: {self._single or f'{self._folder()}{os.sep}'}" if self._count else None


class Crops:
    """``crops/<class>/<name>_<n>.jpg``: what lies in each box."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._unique, self._classes = Unique(), Unique()
        self._names: dict[int, str] = {}
        self._count = 0

    def add(self, prediction: Prediction, name: str) -> None:
        """Cut out the objects of one picture."""
        found = prediction.detections
        limit = np.array([*found.size, *found.size])
        corners = np.concatenate([np.floor(found.boxes[:, :2]), np.ceil(found.boxes[:, 2:])], axis=1)
        stem = str(PurePosixPath(name).with_suffix(""))
        if found.frame is None:  # names of frames are unique
            stem = self._unique(stem, name)  # a.jpg and a.png
        for number, (box, label) in enumerate(zip(np.clip(corners, 0, limit), found.labels.tolist(), strict=True)):
            x1, y1, x2, y2 = box.astype(int).tolist()
            crop = drawn_name(f"{stem}_{number}", (x2 - x1, y2 - y1))
            target = self._folder() / CROPS / self._class_folder(found, label) / crop
            write_atomically(target, _encode(prediction.image[y1:y2, x1:x2], FORMATS[target.suffix]))
            self._count += 1

    def _class_folder(self, found: Detections, label: int) -> str:
        """Like the class, as far as that can be the name of a folder anywhere."""
        if label not in self._names:
            plain = "".join(c if c.isalnum() or c in " -_" else "_" for c in found.name_of(label))[:60].strip()
            self._names[label] = self._classes(plain or str(label))
        return self._names[label]

    def close(self, *, complete: bool) -> None:
        """Nothing is open."""

    def written(self) -> str | None:
        """Say where they are."""
        return f"Crops: {self._folder() / CROPS}" if self._count else None


def drawn_name(name: str, size: tuple[int, int]) -> str:
    """Name the drawn picture; a format that is not written gets a second suffix: ``a.tif`` becomes ``a.tif.jpg``."""
    if PurePosixPath(name).suffix.lower() in FORMATS:
        return name
    return f"{name}.jpg" if max(size) <= _LARGEST_JPEG else f"{name}.png"


def _encode(image: NDArray[np.uint8], kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(data, format=kind, **_QUALITY.get(kind, {}))
    return data.getvalue()
