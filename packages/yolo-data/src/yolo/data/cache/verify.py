"""Every record of a cache, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolo.core.errors import YoloError
from yolo.data.cache.errors import DamagedRecordError
from yolo.data.cache.make import usable_cores
from yolo.data.cache.promote import heal
from yolo.data.cache.store import CacheStore
from yolo.data.encryption.keys import Key

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]

_AT_ONCE = 64


@dataclass(frozen=True)
class DamagedImage:
    """An image whose record is not what was written.

    Attributes:
        path: of the image, as the cache calls it.
        reason: what is wrong with it.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class VerifyReport:
    """What was found.

    Attributes:
        records: number of records looked at: all of them.
        damaged: one for each record that cannot be used.
    """

    records: int
    damaged: tuple[DamagedImage, ...]

    @property
    def exit_code(self) -> int:
        """0 when everything is as it was written, else 1."""
        return 1 if self.damaged else 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"records": self.records, "ok": not self.damaged, "damaged": [asdict(one) for one in self.damaged]}


def verify_cache(folder: Path, key: Key | None = None, track: Track | None = None) -> VerifyReport:
    """Read, authenticate and decode every record.

    Args:
        folder: of the cache.
        key: of an encrypted cache.
        track: shows progress: takes what is gone through, a text and the total.

    Raises:
        CacheError: there is no complete cache of this version, the key is not its key, or its index is damaged, so that
            nothing of it can be used.
    """
    if not folder.exists():
        heal(folder)  # it may have been on its way to its place
    store = CacheStore.open(folder, key=key)
    paths = store.index.paths
    count = len(store.index)
    damaged = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        findings = _looked_at(store, count, pool)
        for number, reason in findings if track is None else track(findings, "Verifying", count):
            if reason is not None:
                damaged.append(DamagedImage(paths[number], reason))
    return VerifyReport(count, tuple(damaged))


def _looked_at(store: CacheStore, count: int, pool: ThreadPoolExecutor) -> Iterator[tuple[int, str | None]]:
    for start in range(0, count, _AT_ONCE):  # in groups, because an executor takes everything that it is given at once
        numbers = range(start, min(start + _AT_ONCE, count))
        yield from zip(numbers, pool.map(lambda number: _reason(store, number), numbers), strict=True)


def _reason(store: CacheStore, number: int) -> str | None:
    try:
        store.read(number)
    except DamagedRecordError as error:
        return str(error.__cause__ or error)  # the rest of the message is for who reads a single image
    except YoloError as error:
        return str(error)
    return None
