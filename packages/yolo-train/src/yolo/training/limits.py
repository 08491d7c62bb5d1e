"""What the loaders of a run may use of the system: open files and shared memory.

Every worker costs open files, and every batch on its way from a worker lies in shared memory. Where either runs out in
the middle of a training, the run dies, so both are looked at once, before any worker starts.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from yolo.data.config import DataConfig
from yolo.data.workers import affordable_workers, files_needed, open_file_limit, usable_workers

_log = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
_SHARE = 0.9  # of what is free there: others use it, too
_SMALL = 1 << 16  # bytes of everything in a batch but its pictures, each tensor in pages of its own
_TENSORS = 7  # of a batch; each is an open file until the main process has taken it
_PIPES = 4  # of a worker
_FILES_OF_THE_REST = 256
_GIB = 1 << 30


def settle_loading(config: DataConfig, batches: Sequence[int], *, ranks: int = 1, tell: bool = True) -> DataConfig:
    """Return a configuration of which ``num_workers`` and ``prefetch_factor`` are what this machine can serve.

    The soft limit on open files is raised first, as far as the hard limit allows. Which batches are made, and what is
    in them, does not depend on any of this.

    Args:
        config: the ``data:`` section.
        batches: number of batches of each loader of the run; their workers stay alive beside each other.
        ranks: processes of this run on this machine, which share its memory.
        tell: say what was changed (one process of a machine is enough).
    """
    if config.num_workers == 0:
        return config
    _raise_open_file_limit(config, loaders=max(len(batches), 1), tell=tell)
    config = replace(config, num_workers=usable_workers(config.num_workers, tell=tell))
    return _fit_shared_memory(config, batches, ranks=ranks, tell=tell)


def in_flight_bytes(config: DataConfig, batches: Sequence[int]) -> int:
    """Shared memory that batches on their way to the main process may take, all loaders of a run together."""
    if config.num_workers == 0:
        return 0
    waiting = sum(min(min(config.num_workers, count) * config.prefetch_factor, count) for count in batches)
    return waiting * batch_bytes(config)


def batch_bytes(config: DataConfig) -> int:
    """Shared memory of one batch: uint8 pictures, and a little for the rest."""
    width, height = config.size
    return config.batch_size * 3 * width * height + _SMALL


def free_shared_memory() -> int | None:
    """Free bytes of shared memory; None where the system has no folder that would tell."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None


def _raise_open_file_limit(config: DataConfig, *, loaders: int, tell: bool) -> None:
    """Raise the soft limit to what the documented rule asks for, or to what the loaders could need if that is more."""
    before = open_file_limit()
    if before is None:
        return
    worst = _FILES_OF_THE_REST + config.num_workers * loaders * (_PIPES + _TENSORS * config.prefetch_factor)
    _set_open_file_limit(max(files_needed(config.num_workers), worst))
    after = open_file_limit()
    gained = affordable_workers(config.num_workers, after) > affordable_workers(config.num_workers, before)
    if gained and tell:
        _log.info("The limit on open files was raised from %d to %s, for %d workers", before, after, config.num_workers)


def _set_open_file_limit(wanted: int) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has a further limit, which it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _fit_shared_memory(config: DataConfig, batches: Sequence[int], *, ranks: int, tell: bool) -> DataConfig:
    free = free_shared_memory()
    if free is None:
        return config
    room = free * _SHARE / ranks
    needed = in_flight_bytes(config, batches)
    if needed <= room:
        return config
    fitting = next(way for way in _smaller(config) if in_flight_bytes(way, batches) <= room)
    if tell:
        changes = [
            f"{key} {getattr(config, key)} → {getattr(fitting, key)}"
            for key in ("num_workers", "prefetch_factor")
            if getattr(config, key) != getattr(fitting, key)
        ]
        _log.warning(
            "⚠️ Reducing %s: batches on their way from %d workers may take %s of shared memory, %s has %s free. "
            "In a container, start it with --shm-size=%dg (or --ipc=host).",
            *(" and ".join(changes), config.num_workers, _size(needed * ranks), SHARED_MEMORY, _size(free)),
            math.ceil(needed * ranks / _SHARE / _GIB),
        )
    return fitting


def _smaller(config: DataConfig) -> Iterator[DataConfig]:
    """Ways to have fewer batches waiting, the one that costs least first: shorter queues, then fewer workers."""
    shortest = min(2, config.prefetch_factor)
    for length in range(config.prefetch_factor - 1, shortest - 1, -1):
        yield replace(config, prefetch_factor=length)
    for workers in range(config.num_workers - 1, 0, -1):
        yield replace(config, num_workers=workers, prefetch_factor=shortest)
    yield replace(config, num_workers=1, prefetch_factor=1)
    yield replace(config, num_workers=0)  # which needs none


def _size(count: float) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / (1 << 20):.0f} MiB"
