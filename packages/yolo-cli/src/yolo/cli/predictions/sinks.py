"""What takes results one by one, and the folder that they go to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
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
        sources: files that must not be overwritten.
    """

    def __init__(self, path: Path | None, *, sources: Iterable[Path] = ()) -> None:
        self._path = path
        in_the_way = path is not None and path.is_dir()  # else there is nothing to overwrite
        self._sources = {_identity(source) for source in sources} - {None} if in_the_way else set()

    def __call__(self) -> Path:
        """Return the folder; it is there."""
        if self._path is None:
            self._path = _new_folder(_AUTO_ROOT)
        self._path.mkdir(parents=True, exist_ok=True)
        return self._path

    def is_source(self, target: Path, own: Path | None) -> bool:
        """Whether a file is one of the sources; ``own`` is that of the result, which a list from elsewhere may name."""
        found = _identity(target)
        return found is not None and (found in self._sources or (own is not None and found == _identity(own)))


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
            self._temporary = Path(temporary)
            self._file = os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="")
        self._file.write(text)

    def close(self, *, complete: bool, last: str = "") -> None:
        """Append the last text and put the file in its place, or remove it."""
        if complete:
            try:
                self.write(last)
            except OSError:  # the disk is full
                self._end(complete=False)
                raise
        self._end(complete=complete)

    def _end(self, *, complete: bool) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            file.close()  # writes the rest
            if complete:
                mask = os.umask(0)
                os.umask(mask)
                self._temporary.chmod(0o666 & ~mask)  # mkstemp's files are for their owner only
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file has in common with its other names: links, and other spellings of its path."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


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
