"""What a cache needs and what the machine has: memory and disk space. 1 GB is 10**9 bytes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache.pictures import SourceFacts, encode_record
from yolo.data.cache.plan import shrink
from yolo.data.cache.settings import CacheSettings
from yolo.data.loaders import ImageLoader

GB = 1_000_000_000
_SAMPLE = 16
_PAGE = 4096
_OVERHEAD = 64  # of a value: LMDB's header of its first page, nonce and tag
_PER_RECORD = 192  # of the index, short paths and a few boxes
_LEAST = 1 << 20
_NO_LIMIT = 1 << 60  # version 1 control groups write a number near 2**63 for none


def estimate_bytes(paths: Sequence[str], settings: CacheSettings, loader: ImageLoader) -> int:
    """Bytes that a cache of these pictures will take, reckoned from up to 16 of them.

    Pictures that cannot be read are left out here; the building of the cache tells of them.

    Raises:
        UsageError: the loader cannot work at all: the key of encrypted images is missing.
    """
    sizes = []
    for number in sorted({index * len(paths) // _SAMPLE for index in range(_SAMPLE)}) if paths else ():
        try:
            picture = shrink(loader.read(paths[number]), settings.size)
        except UsageError:
            raise
        except YoloError:
            continue
        record = encode_record(
            picture, SourceFacts(0, 0, 0, bytes(16)), picture_format=settings.picture_format, quality=settings.quality
        )
        sizes.append(-(-(len(record) + _OVERHEAD) // _PAGE) * _PAGE)
    each = sum(sizes) / len(sizes) if sizes else 0
    return _LEAST + int(len(paths) * (each + _PER_RECORD))


def check_disk(folder: Path, needed: int) -> None:
    """Raise YoloError where the disk of ``folder`` has fewer free bytes than ``needed``."""
    free = free_disk(folder)
    if needed > free:
        raise YoloError(
            f"{folder}: the cache needs about {_gb(needed)} more, but its disk has {_gb(free)} free: make room, "
            "set data.cache_dir to a folder on a larger disk, or make the cache smaller "
            "(data.cache_format jpeg, data.cache_resize_images true)"
        )


def check_memory(needed: int, limit_gb: float) -> None:
    """Raise UsageError where ``needed`` bytes of cache do not go into memory (``data.cache_images: ram``).

    Args:
        needed: size of the cache, bytes.
        limit_gb: ``data.cache_max_memory_gb``.
    """
    way_out = "or set data.cache_images to disk, which reads the same cache as needed"
    if needed > limit_gb * GB:
        raise UsageError(
            f"data.cache_images is ram, but the cache takes {_gb(needed)} and data.cache_max_memory_gb allows "
            f"{limit_gb:g} GB: raise it, {way_out}"
        )
    available = available_memory()
    if available is not None and needed > available:
        raise UsageError(
            f"data.cache_images is ram, but the cache takes {_gb(needed)} and only {_gb(available)} of this machine's "
            f"memory can be had: free some, {way_out}"
        )


def check_resources(folder: Path, needed: int, *, mode: str, max_memory_gb: float, present: int = 0) -> None:
    """Raise where a cache will not fit.

    Args:
        folder: of the cache.
        needed: bytes of the whole cache.
        mode: ``data.cache_images``; memory is looked at for ``ram``.
        max_memory_gb: ``data.cache_max_memory_gb``.
        present: bytes of it that are on the disk already.

    Raises:
        YoloError: the disk is too small.
        UsageError: the memory is.
    """
    if mode == "ram":
        check_memory(needed, max_memory_gb)
    check_disk(folder, needed - present)


def free_disk(folder: Path) -> int:
    """Bytes that this user may still write on the disk of a folder, which need not exist yet."""
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def available_memory(system: Path = Path("/")) -> int | None:
    """Bytes of memory that can be had without swapping: the machine's, or what its control groups leave.

    Memory that only holds file contents counts as free, because the system gives it back when asked.

    Args:
        system: where ``proc`` and ``sys`` lie (tests have others).

    Returns:
        None where the system does not tell. Without ``/proc`` it is the whole memory.
    """
    values = [value for value in (_machine(system), *_groups(system)) if value is not None]
    return min(values) if values else None


def _machine(system: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (system / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _groups(system: Path) -> Iterator[int]:
    """What each control group that this process is in, and each one around it, leaves (versions 1 and 2)."""
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        base = system / "sys/fs/cgroup" / ("memory" if controllers else "")
        # In a container the path may be that of the host; its own group is then the root that it sees.
        inner = Path(group.strip("/"))
        for folder in (base / part for part in (inner, *inner.parents)):
            with contextlib.suppress(OSError, ValueError):
                limit = (folder / names[0]).read_text().strip()
                if limit != "max" and int(limit) < _NO_LIMIT:
                    used = int((folder / names[1]).read_text()) - _file_pages(folder)
                    yield max(0, int(limit) - used)


def _file_pages(folder: Path) -> int:
    """Bytes of a control group's memory, the groups within it included, that hold file contents."""
    lines = (line.partition(" ") for line in (folder / "memory.stat").read_text().splitlines())
    facts = {name: int(value) for name, _, value in lines}
    names = ("active_file", "inactive_file")  # version 1 counts the groups within as total_*
    return sum(facts.get(f"total_{name}", facts.get(name, 0)) for name in names)


def _gb(count: int) -> str:
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 1_000_000:.1f} MB"
