"""Making the records of a cache, in threads: decoding, encoding and encryption leave Python's lock free."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from yolo.core.errors import YoloError
from yolo.data.cache.errors import DamagedRecordError
from yolo.data.cache.pictures import DIGEST_SIZE, SourceFacts, encode_record, record_facts
from yolo.data.cache.plan import Plan, shrink
from yolo.data.cache.seal import Seal, record_label
from yolo.data.loaders import ImageLoader

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Made:
    """A sealed record.

    Attributes:
        number: of the record.
        stored: what is written.
        check: of what is written, see :meth:`Seal.check`.
        facts: of its source.
    """

    number: int
    stored: bytes
    check: bytes
    facts: SourceFacts


class Records:
    """What the index tells of each record, filled in one by one.

    Args:
        count: number of records.
        check_size: bytes of a check.
    """

    def __init__(self, count: int, check_size: int) -> None:
        self.there = np.zeros(count, np.bool_)
        self.checks = np.zeros((count, check_size), np.uint8)
        self.stored = np.zeros(count, np.int64)
        #: size, mtime_ns, ctime_ns of each source.
        self.facts = np.zeros((count, 3), np.int64)
        self.digests = np.zeros((count, DIGEST_SIZE), np.uint8)

    def add(self, made: Made) -> None:
        """Take down what a record is."""
        number, facts = made.number, made.facts
        self.checks[number] = np.frombuffer(made.check, np.uint8)
        self.stored[number] = len(made.stored)
        self.facts[number] = facts.size, facts.mtime_ns, facts.ctime_ns
        self.digests[number] = np.frombuffer(facts.digest, np.uint8)
        self.there[number] = True

    @property
    def count(self) -> int:
        """How many are there."""
        return int(self.there.sum())


def make_record(number: int, plan: Plan, loader: ImageLoader, seal: Seal) -> Made:
    """Read an image and make its record.

    Raises:
        YoloError: naming the image, which cannot be read.
    """
    path = plan.sources[number]
    # First the facts: an image that is rewritten before it is read then looks changed the next time, never unchanged.
    facts = SourceFacts.of(path)
    picture = shrink(loader.read(path), plan.settings.size)
    try:
        content = encode_record(
            picture, facts, picture_format=plan.settings.picture_format, quality=plan.settings.quality
        )
    except YoloError as error:
        raise YoloError(f"{path}: {error}") from error
    stored = seal.close(content, record_label(number))
    return Made(number, stored, seal.check(stored), facts)


def look_at_record(number: int, stored: bytes, plan: Plan, seal: Seal) -> Made | None:
    """Return a record that an earlier run stored, None when it is damaged or its image has changed since."""
    if number >= len(plan):
        return None
    try:
        facts = record_facts(seal.open(stored, record_label(number))).facts
        unchanged = facts.unchanged(plan.sources[number])
    except DamagedRecordError:
        return None
    return Made(number, stored, seal.check(stored), facts) if unchanged else None


def in_threads(
    work: Callable[[_In], _Out], items: Iterable[_In], *, workers: int, ahead: int | None = None
) -> Generator[_Out, None, None]:
    """Apply ``work`` to items in threads and yield the results in order.

    Args:
        work: called in the threads.
        items: gone through by the caller's thread.
        workers: number of threads.
        ahead: how many results may wait or be in the making; twice the threads when not set.

    Raises:
        Exception: the first one, in the order of the items, that ``work`` raises. No other item is begun then.
    """
    ahead = 2 * workers if ahead is None else ahead
    waiting: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="yolo-cache") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def usable_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
