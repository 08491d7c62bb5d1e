"""The image loader that reads from a cache: to everything else a cache is one more way to read a path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.data.cache.errors import ImageNotInCacheError
from yolo.data.cache.store import CacheStore
from yolo.data.loaders.base import ImageLoader, Pixels
from yolo.data.spill import Spilled, is_spawning, spill

#: Where each picture is: ``hashes``, uint64 ``[n]`` ascending, of the paths; ``records``, int32 ``[n]``.
_Places = Mapping[str, NDArray[Any]]


class CachedImageLoader(ImageLoader):
    """Read pictures from a cache.

    A picture may be smaller than its file, see ``data.cache_resize_images``. Workers get two flat arrays and open the
    cache for themselves.

    Args:
        store: the opened cache.
        paths: absolute path of each of its records.
        files: reads images that are not in the cache; None where that is an error.
    """

    needs_files = False
    can_reduce = True

    def __init__(self, store: CacheStore, paths: Iterable[str], files: ImageLoader | None) -> None:
        self.store = store
        self.files = files
        self.confidential = store.head.encrypted
        self._whole = store.index.settings.size is None  # rows are counted in files, and so in pictures of their size
        hashes = np.fromiter(map(_hash, paths), np.uint64)
        order = np.argsort(hashes).astype(np.int32)
        self._places: _Places = {"hashes": hashes[order], "records": order}
        self._spilled: Spilled | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        places: _Places | Spilled = self._places
        if is_spawning():
            if self._spilled is None:
                self._spilled = spill(self._places, self, secret=self.confidential)
            places = self._spilled
        return _attach, (self.store, places, self.files, self._whole)

    def __call__(self, path: str) -> Pixels:
        """Return the whole picture."""
        return self.read(path)

    def read(self, path: str, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Pixels:
        """Return the picture of a path, uint8 ``[H, W, 3]`` RGB; see :meth:`ImageLoader.read`.

        Raises:
            ImageNotInCacheError: it is not there, and files are not to be read.
            CacheError: its record is damaged.
        """
        record = self._record(path)
        if record is not None:
            return self.store.read(record, least=least, rows=rows if self._whole else None)
        if self.files is None:
            raise ImageNotInCacheError(path, self.store.folder)
        return self.files.read(path, least=least, rows=rows)

    def _record(self, path: str) -> int | None:
        wanted = np.uint64(_hash(path))
        hashes, records = self._places["hashes"], self._places["records"]
        position = int(np.searchsorted(hashes, wanted))
        if position == len(hashes) or hashes[position] != wanted:
            return None
        return int(records[position])


def _attach(store: CacheStore, places: _Places | Spilled, files: ImageLoader | None, whole: bool) -> CachedImageLoader:
    loader = CachedImageLoader.__new__(CachedImageLoader)
    loader.store, loader.files, loader.confidential = store, files, store.head.encrypted
    loader._places = places.attach() if isinstance(places, Spilled) else places
    loader._spilled, loader._whole = None, whole
    return loader


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest(), "little")
