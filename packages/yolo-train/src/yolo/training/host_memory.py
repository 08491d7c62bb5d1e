"""How the C library deals with memory that a training on the CPU has freed."""

from __future__ import annotations

import ctypes
import os
import sys

from lightning.pytorch import Callback, LightningModule, Trainer

# Parameters and defaults of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1
_DEFAULT_MMAPS = 65536
_MOST_KEPT = 64 << 20  # how far the threshold for giving memory back rises by itself

_OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


class KeptMemory(Callback):
    """Keeps freed memory for the next step while a module is on the CPU, and gives it back at the end or an error."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep it from here on."""
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give it back."""
        if trainer.strategy.root_device.type == "cpu":
            return_freed_memory()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give it back: after an error Lightning tears nothing down."""
        self.teardown(trainer, pl_module, "fit")


def keep_freed_memory() -> bool:
    """Keep freed memory in this process for the next step, which needs as much again.

    glibc gives large blocks back to the kernel at once, and every step then gets all maps of the network page by page,
    filled with zeros. The peak is the same. Where another C library is in use, or somebody has set its ``MALLOC_``
    variables, nothing is done.

    Returns:
        Whether it does so now.
    """
    library = _library()
    return library is not None and all(
        library.mallopt(key, value) for key, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER))
    )


def return_freed_memory() -> None:
    """Undo :func:`keep_freed_memory`, and give back what is free."""
    library = _library()
    if library is not None:
        library.mallopt(_MMAP_MAX, _DEFAULT_MMAPS)
        library.mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
        library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    """The C library, if it is glibc and is left to us."""
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(name in os.environ for name in _OF_THE_USER)
    if tuned or not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "malloc_trim") else None
