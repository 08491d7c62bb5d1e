"""Where ``yolo predict`` writes: pictures and ``predictions.json``, never over a source, never half a file."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yolo.core.drawing import draw_detections
from yolo.core.errors import UsageError, YoloError
from yolo.core.files import write_atomically
from yolo.core.results import Detections

AUTO = "auto"
JSON_NAME = "predictions.json"
_AUTO_ROOT = Path("runs", "predict")
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}
_QUALITY = {"JPEG": {"quality": 92}, "WEBP": {"quality": 92}}


class PredictOutput:
    """Writes results one by one; use it as a context manager, and call :meth:`finish` when all went well.

    Args:
        output: a folder, the name of a picture (for a single source image), or ``"auto"`` for a new folder
            ``runs/predict/<n>``.
        source: the file or folder that is predicted on.
        files: the images, so that none of them is overwritten.
        draw: write pictures.
        save_json: write :data:`JSON_NAME`.

    Raises:
        UsageError: ``output`` is in the way of a source image, or cannot be a folder.
    """

    def __init__(self, output: str, *, source: Path, files: list[Path], draw: bool, save_json: bool) -> None:
        self._root = source if source.is_dir() else source.parent
        self._draw, self._save_json = draw, save_json
        self._picture: Path | None = None
        self._pictures = 0
        self._json: IO[str] | None = None
        self._records = 0
        self._temporary = Path()
        self._folder = Path(output)
        self._auto = output == AUTO
        if self._auto:
            return
        if draw and not source.is_dir() and self._folder.suffix.lower() in _FORMATS and not self._folder.is_dir():
            self._picture, self._folder = self._folder, self._folder.parent
        elif self._folder.exists() and not self._folder.is_dir():
            raise UsageError(f"--output {output!r} is a file; give a folder")
        if draw:
            self._refuse_to_overwrite(files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._json is not None:  # not finished: leave no half a file
            self._json.close()
            self._temporary.unlink(missing_ok=True)

    def name_of(self, path: Path) -> str:
        """Name an image below the source folder, with ``/``."""
        try:
            return path.relative_to(self._root).as_posix()
        except ValueError:
            return path.as_posix()

    def add(self, image: NDArray[np.uint8], found: Detections) -> None:
        """Write what was found in one image; a picture is written also when that is nothing."""
        self._open()
        path = found.path or Path(f"{self._records}.png")
        if self._json is not None:
            self._json.write(",\n" if self._records else "[\n")
            self._json.write(json.dumps(found.to_dict(image=self.name_of(path))))
        self._records += 1
        if self._draw:
            target = self._target(path)
            write_atomically(target, _encode(draw_detections(image, found), _FORMATS[target.suffix.lower()]))
            self._pictures += 1

    def finish(self) -> None:
        """Put the complete JSON file in its place."""
        if self._save_json:
            self._open()
        if self._json is None:
            return
        self._json.write("\n]\n" if self._records else "[]\n")
        self._json.close()
        self._json = None
        mask = os.umask(0)
        os.umask(mask)
        self._temporary.chmod(0o666 & ~mask)  # mkstemp's files are for their owner only
        self._temporary.replace(self._folder / JSON_NAME)

    def written(self) -> list[str]:
        """Say what lies where, one line each."""
        lines = []
        if self._pictures:
            where = str(self._picture) if self._picture else f"{self._folder}{os.sep}"
            lines.append(f"Pictures: {where}")
        if self._save_json:
            lines.append(f"JSON: {self._folder / JSON_NAME}")
        return lines

    def _open(self) -> None:
        """Make the folder and begin the JSON file when there is something to write, not before."""
        if self._auto and (self._draw or self._save_json):
            self._folder, self._auto = _new_folder(_AUTO_ROOT), False
        if self._save_json and self._json is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=f".{JSON_NAME}.")
            self._json, self._temporary = os.fdopen(handle, "w", encoding="ascii"), Path(temporary)

    def _target(self, path: Path) -> Path:
        if self._picture is not None:
            return self._picture
        target = self._folder / self.name_of(path) if path.is_relative_to(self._root) else self._folder / path.name
        # A format that is not written gets a second suffix, so that a.tif and a.png stay apart.
        return target if target.suffix.lower() in _FORMATS else target.with_name(f"{target.name}.jpg")

    def _refuse_to_overwrite(self, files: list[Path]) -> None:
        sources = {path.resolve() for path in files}
        for path in files:
            target = self._target(path)
            if target.resolve() in sources:
                raise UsageError(f"--output would overwrite the source image {str(target)!r}; give another folder")


def _new_folder(root: Path) -> Path:
    """Make the first free of ``root/1``, ``root/2``, ...; two runs at once get two folders."""
    root.mkdir(parents=True, exist_ok=True)
    numbers = [int(entry.name) for entry in root.iterdir() if entry.name.isdecimal()]
    for number in range(max(numbers, default=0) + 1, 10**9):
        try:
            (root / str(number)).mkdir()
        except FileExistsError:
            continue
        return root / str(number)
    raise YoloError(f"no free number left in {str(root)!r}")


def _encode(image: NDArray[np.uint8], kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, format=kind, **_QUALITY.get(kind, {}))
    return data.getvalue()
