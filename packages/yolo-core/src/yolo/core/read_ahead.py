"""Reading the next pictures while the network looks at the last ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Result], *, depth: int, threads: int = 2
) -> Iterator[Callable[[], Result]]:
    """Read items in threads, in order, no more than ``depth`` of them at a time.

    Args:
        items: taken in the caller's thread.
        read: run in a thread.
        depth: most items that are read, or being read, and not yet taken.
        threads: that read.

    Yields:
        A function per item that returns what was read, or raises what reading raised.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="yolo-read") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) >= depth:
                    yield waiting.popleft().result
            while waiting:
                yield waiting.popleft().result
        finally:
            for future in waiting:
                future.cancel()
