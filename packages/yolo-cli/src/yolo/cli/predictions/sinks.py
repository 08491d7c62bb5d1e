"""What takes results one by one, and the folder that they go to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Protocol

from yolo.core.errors import YoloError
from yolo.core.predictor import Prediction

_AUTO_ROOT = Path("runs", "predict")


class Sink(Protocol):
    """One kind of result."""

    def add(self, prediction: Prediction, name: str) -> None:
        """Take the result of one picture; ``name`` is unique, with ``/`` and the suffix of the picture."""

    def close(self, *, complete: bool) -> None:
        """End; if not ``complete``, leave no half a file."""

    def written(self) -> str | None:
        """Say what lies where, in one line; None when nothing was written."""


class Folder:
    """The folder of the results, made when the first of them is written.

    Args:
        path: of the folder; None for a new one, ``runs/predict/<n>``.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __call__(self) -> Path:
        """Return the folder; it is there."""
        if self._path is None:
            self._path = _new_folder(_AUTO_ROOT)
        self._path.mkdir(parents=True, exist_ok=True)
        return self._path


class PendingFile:
    """A text file that takes its name when it is complete.

    Args:
        folder: where it goes.
        name: of the complete file.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name = folder, name
        self._file: IO[str] | None = None
        self._temporary = Path()

    @property
    def path(self) -> Path:
        """Of the complete file."""
        return self._folder() / self._name

    def write(self, text: str) -> None:
        """Append."""
        if self._file is None:
            handle, temporary = tempfile.mkstemp(dir=self._folder(), prefix=f".{self._name}.")
            self._file, self._temporary = os.fdopen(handle, "w", encoding="utf-8", newline=""), Path(temporary)
        self._file.write(text)

    def close(self, *, complete: bool) -> None:
        """Put the file in its place, or remove it."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if complete:
            mask = os.umask(0)
            os.umask(mask)
            self._temporary.chmod(0o666 & ~mask)  # mkstemp's files are for their owner only
            self._temporary.replace(self.path)
        else:
            self._temporary.unlink(missing_ok=True)


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
