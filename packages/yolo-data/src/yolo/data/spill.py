"""One copy of large arrays for any number of spawned worker processes, through a temporary file that all map."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGN = 64


def is_spawning() -> bool:
    """True while an object is pickled for a process that is being spawned (fork shares memory by itself)."""
    return get_spawning_popen() is not None


@dataclass(frozen=True)
class Spilled:
    """Where each array lies in the file: name -> (offset in bytes, dtype, shape).

    Attributes:
        path: of the file.
        places: of the arrays in it.
        inline: arrays that are in no file, because they must not reach a disk.
    """

    path: str
    places: Mapping[str, tuple[int, str, tuple[int, ...]]]
    inline: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def attach(self) -> dict[str, NDArray[Any]]:
        """Map the file and return read-only views. The mapping outlives the file's name."""
        if self.inline:
            return dict(self.inline)
        if not any(np.prod(shape) for _, _, shape in self.places.values()):
            return {name: np.zeros(shape, dtype) for name, (_, dtype, shape) in self.places.items()}
        data = np.memmap(self.path, np.uint8, "r")
        return {
            name: np.frombuffer(data, dtype, int(np.prod(shape)), offset).reshape(shape)
            for name, (offset, dtype, shape) in self.places.items()
        }


def spill(arrays: Mapping[str, NDArray[Any]], owner: object, *, secret: bool = False) -> Spilled:
    """Write arrays to a temporary file that is removed when ``owner`` is garbage, or at exit.

    Args:
        arrays: by name.
        owner: of the arrays.
        secret: they must not reach a disk (also where ``owner.confidential`` is true). Where the system has no folder
            in memory, or no room in it, every process gets a copy instead.
    """
    places, position = {}, 0
    for name, array in arrays.items():
        places[name] = (position, array.dtype.str, array.shape)
        position += -(-array.nbytes // _ALIGN) * _ALIGN
    folder = _folder(position)
    if folder is None and (secret or getattr(owner, "confidential", False)):
        return Spilled("", {}, dict(arrays))
    handle, path = tempfile.mkstemp(prefix="yolo-labels-", dir=folder)
    weakref.finalize(owner, _remove, path)
    with os.fdopen(handle, "wb") as file:
        for name, array in arrays.items():
            file.seek(places[name][0])
            file.write(np.ascontiguousarray(array).data)
        file.truncate(max(position, 1))
    return Spilled(path, places)


def _folder(size: int) -> str | None:
    """Memory rather than a disk where there is room; None is the usual temporary folder."""
    memory = "/dev/shm"
    try:
        return memory if shutil.disk_usage(memory).free > 2 * size and os.access(memory, os.W_OK) else None
    except OSError:
        return None


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # somebody still has it open on Windows
        Path(path).unlink()
