"""Ending a process whose main thread cannot answer a signal, because it waits for another process in a library.

Python runs its handlers between two of its own steps. A process that waits for the others to come, or for one that is
gone, takes none for up to half an hour, and would ignore SIGTERM meanwhile.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

PATIENCE = 5.0  # seconds that the main thread gets to answer

_watching: list[threading.Thread] = []


def _in_a_forked_child() -> None:
    """Let a child's signals not be taken for those of its parent, whose pipe it has as well."""
    if _watching:
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_a_forked_child)


@contextmanager
def last_resort(
    numbers: Collection[int], answered: Callable[[], float], patient: Callable[[], bool], *, again: float
) -> Iterator[None]:
    """End the process with 128 + the number of a signal that its main thread leaves unanswered within the block.

    Args:
        numbers: of the signals, which have Python handlers.
        answered: when the main thread answered one last (``time.monotonic``), which is often before we know of it.
        patient: whether a first signal may wait as long as it likes, for a step to be complete; the second may not.
        again: seconds after which a further signal is a second one, and not the same.
    """
    if threading.current_thread() is not threading.main_thread() or not numbers:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        first = 0.0
        while number := os.read(reader, 1)[0]:
            now = time.monotonic()
            first = first or now
            if number not in numbers or (patient() and now - first < again):
                continue
            end = now + PATIENCE
            while time.monotonic() < end and answered() < now - again and not done.is_set():
                time.sleep(0.05)
            if answered() < now - again and not done.is_set():
                with suppress(OSError):
                    os.write(2, f"\n{signal.Signals(number).name}: ended while it waited for something\n".encode())
                os._exit(128 + number)

    done = threading.Event()
    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="last resort", daemon=True)
    thread.start()
    _watching.append(thread)
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        _watching.remove(thread)
        done.set()
        os.write(writer, b"\0")
        thread.join()
        os.close(reader)
        os.close(writer)
