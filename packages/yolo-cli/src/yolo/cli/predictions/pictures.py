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

from .sinks import Folder

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}
_QUALITY = {"JPEG": {"quality": 92}, "WEBP": {"quality": 92}}
CROPS = "crops"


class Pictures:
    """Every picture with its boxes.

    Args:
        folder: where they go.
        single: the name of the one picture, instead of its own.
    """

    def __init__(self, folder: Folder, *, single: Path | None = None) -> None:
        self._folder, self._single = folder, single
        self._taken: set[str] = set()
        self._count = 0

    def add(self, prediction: Prediction, name: str) -> None:
        """Draw one; frames are left to the video."""
        found = prediction.detections
        if found.frame is not None:
            return
        target = self._single or self._folder() / self._unique(drawn_name(name))
        if found.path is not None and target.exists() and target.samefile(found.path):
            raise UsageError(f"--output would overwrite the source image {str(target)!r}; give another folder")
        image = draw_detections(prediction.image, found)
        write_atomically(target, _encode(image, FORMATS[target.suffix.lower()]))
        self._count += 1

    def _unique(self, name: str) -> str:
        """``a.tif`` and ``a.tif.jpg`` are both drawn as ``a.tif.jpg``."""
        path, number = PurePosixPath(name), 1
        while name in self._taken:
            number += 1
            name = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
        self._taken.add(name)
        return name

    def close(self, *, complete: bool) -> None:
        """Nothing is open."""

    def written(self) -> str | None:
        """Say where they are."""
        return f"Pictures: {self._single or f'{self._folder()}{os.sep}'}" if self._count else None


class Crops:
    """``crops/<class>/<name>_<n>.jpg``: what lies in each box."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._count = 0

    def add(self, prediction: Prediction, name: str) -> None:
        """Cut out the objects of one picture."""
        found = prediction.detections
        limit = np.array([*found.size, *found.size])
        corners = np.concatenate([np.floor(found.boxes[:, :2]), np.ceil(found.boxes[:, 2:])], axis=1)
        path = PurePosixPath(name)
        for number, (box, label) in enumerate(zip(np.clip(corners, 0, limit), found.labels.tolist(), strict=True)):
            x1, y1, x2, y2 = box.astype(int).tolist()
            folder = "".join(c if c.isalnum() or c in " -_" else "_" for c in found.name_of(label)).strip() or str(
                label
            )
            target = self._folder() / CROPS / folder / path.parent / f"{path.stem}_{number}.jpg"
            write_atomically(target, _encode(prediction.image[y1:y2, x1:x2], "JPEG"))
            self._count += 1

    def close(self, *, complete: bool) -> None:
        """Nothing is open."""

    def written(self) -> str | None:
        """Say where they are."""
        return f"Crops: {self._folder() / CROPS}" if self._count else None


def drawn_name(name: str) -> str:
    """Name the drawn picture; a format that is not written gets a second suffix: ``a.tif`` becomes ``a.tif.jpg``."""
    return name if PurePosixPath(name).suffix.lower() in FORMATS else f"{name}.jpg"


def _encode(image: NDArray[np.uint8], kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(data, format=kind, **_QUALITY.get(kind, {}))
    return data.getvalue()
