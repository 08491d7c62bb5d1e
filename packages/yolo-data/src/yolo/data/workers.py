"""How many worker processes may run, and what each does first."""

from __future__ import annotations

import logging
import os
import signal
from types import FrameType

import cv2
import numpy as np
import torch

_log = logging.getLogger("yolo.data")

FILES_PER_WORKER = 15
FILES_OF_THE_REST = 1000
_KEPT = 31 << 20  # bytes; from 32 MiB on, glibc gives every freed block back


def files_needed(workers: int) -> int:
    """Open files that a run with this many workers may need: ``workers x 15 + 1000``."""
    return workers * FILES_PER_WORKER + FILES_OF_THE_REST


def affordable_workers(wanted: int, limit: int | None) -> int:
    """Number of workers that a limit on open files allows.

    Args:
        wanted: workers asked for.
        limit: of open files (``ulimit -n``); None for no limit.

    Returns:
        ``wanted`` when ``files_needed(wanted)`` fits; else what fits. The 1000 files for everything but workers are
        generous, so below a limit of 2500 one worker for each 25 files is allowed, which is more.
    """
    if limit is None or files_needed(wanted) <= limit:
        return wanted
    return min(wanted, max(1, (limit - FILES_OF_THE_REST) // FILES_PER_WORKER, limit // 25))


def open_file_limit() -> int | None:
    """The soft limit on open files, or None where there is none."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def usable_workers(wanted: int, *, tell: bool = True) -> int:
    """Lower a number of workers to what the cores and the limit on open files allow, and say so in the log.

    Args:
        wanted: workers asked for.
        tell: false says nothing.
    """
    limit = open_file_limit()
    workers = affordable_workers(wanted, limit)
    if workers < wanted and tell:
        _log.warning(
            "⚠️ Reducing num_workers: %d → %d (ulimit -n = %s).\n   To use %d workers, run: ulimit -n %d",
            *(wanted, workers, limit, wanted, files_needed(wanted)),
        )
    cores = _cores()
    if workers > cores and tell:
        _log.info("num_workers: %d instead of %d, one for each core this process may use", cores, workers)
    return min(workers, cores)


def prepare_worker(worker: int) -> None:
    """Pin a worker to one thread, for there is one worker for each core already; and let it keep its memory.

    Signals that reach the whole group (Ctrl-C, what a scheduler sends before it ends a job) are for the training to
    answer, which would fail if its workers ended first.
    """
    _leave_signals_to_the_training()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Linux's C library keeps freed blocks as large as the largest that it has seen freed (mallopt(3), "dynamic mmap
    # threshold"); else it gives every picture's memory back, to be mapped anew, page by page, for the next picture.
    np.empty(_KEPT, np.uint8)


def _leave_signals_to_the_training() -> None:
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _obey_the_next)


def _obey_the_next(number: int, frame: FrameType | None) -> None:
    """Let the first request pass: the training ends its workers itself, by another one if it has to."""
    signal.signal(number, signal.SIG_DFL)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
