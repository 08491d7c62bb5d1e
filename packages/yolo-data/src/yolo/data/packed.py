"""Many strings in two arrays, so that worker processes share them without copying."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PackedStrings:
    """A read-only sequence of strings.

    A list of a million Python strings is a million reference counts, and touching one copies its memory page in a
    forked worker; two arrays are never touched that way.

    Attributes:
        data: uint8, all strings one after the other in the file system's encoding.
        offsets: int64 ``[n + 1]``, string i is ``data[offsets[i]:offsets[i + 1]]``.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @staticmethod
    def pack(strings: Iterable[str]) -> PackedStrings:
        """Pack strings; names that are not valid text keep their bytes."""
        encoded = [os.fsencode(text) for text in strings]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(item) for item in encoded], out=offsets[1:])
        return PackedStrings(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return os.fsdecode(self.data[self.offsets[index] : self.offsets[index + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def below_common_folder(self) -> bytes:
        """Return every path from the deepest folder that all are in, each with a zero byte behind it.

        Paths begin with the separator, ``/images/a.jpg``, unless that folder is the root. It is the work of arrays,
        so a million paths take a fraction of a second.
        """
        counts = np.diff(self.offsets)
        if not len(counts) or not counts.min():
            return b"".join(os.fsencode(text) + b"\0" for text in self)
        folder = self._common_folder()
        keep = np.ones(len(self.data), bool)
        for position in range(folder):
            keep[self.offsets[:-1] + position] = False
        ends = np.cumsum(counts - folder)
        return np.insert(self.data[keep], ends, 0).tobytes()

    def _common_folder(self) -> int:
        """Length in bytes of the deepest folder that all paths are in."""
        first = self.data[: self.offsets[1]]
        starts, shortest = self.offsets[:-1], int(np.diff(self.offsets).min())
        common = 0
        while common < shortest and (self.data[starts + common] == first[common]).all():
            common += 1
        separators = np.flatnonzero(first[:common] == ord(os.sep))
        return max(int(separators[-1]), int(separators[-1] == 0)) if len(separators) else 0

    def select(self, index: NDArray[np.intp]) -> PackedStrings:
        """Return the strings at these positions."""
        return PackedStrings.pack(self[int(i)] for i in index)
