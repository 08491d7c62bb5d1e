"""Reading the next pictures while the network looks at the last ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE = 1.0  # seconds that a thread gets to finish its last picture when no more are wanted


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
    work: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()

    def run() -> None:
        while (task := work.get()) is not None:
            future, item = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(read(item))
                except BaseException as error:
                    future.set_exception(error)

    # Not those of an executor, for which Python waits when it ends: an address may take minutes to be given up.
    pool = [Thread(target=run, name=f"yolo-read-{number}", daemon=True) for number in range(threads)]
    for thread in pool:
        thread.start()
    try:
        for item in items:
            waiting.append(Future())
            work.put((waiting[-1], item))
            if len(waiting) >= depth:
                yield waiting.popleft().result
        while waiting:
            yield waiting.popleft().result
    finally:
        for future in waiting:
            future.cancel()
        for _ in pool:
            work.put(None)
        for thread in pool:
            thread.join(_PATIENCE)
