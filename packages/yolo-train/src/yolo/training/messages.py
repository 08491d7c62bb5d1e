"""What a person sees of logging: our own notes, and of Lightning's only what one can act on."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TextIO

_IGNORED = (
    r".*does not have many workers.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r"Experiment logs directory .* exists and is not empty.*",  # there is nothing of its own in it yet
    r".*It is recommended to use `self\.log\('val/.*sync_dist=True.*",  # every process has the numbers of all
    r".*Starting from v1\.9\.0, `tensorboardX` has been removed.*",
)
_ADVERTISEMENTS = ("litlogger", "litmodels", "💡", "gpu available: ", "tpu available: ")  # our summary names the device


def rank_on_machine() -> int:
    """Return the number of this process among those that were started on this machine, from the environment."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


def set_up_messages() -> None:
    """Show the notes of ``yolo.*`` on stderr, and filter known noise of Lightning; everything else stays.

    Of several processes on a machine the first alone shows notes; warnings come from all.
    """
    notes = logging.getLogger("yolo")
    if not notes.handlers:
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(message)s"))
        notes.addHandler(handler)
        notes.setLevel(logging.WARNING if rank_on_machine() else logging.INFO)
    for pattern in _IGNORED:
        warnings.filterwarnings("ignore", message=pattern)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what is standard error now; it may be replaced during the process."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one note."""
        self.stream = sys.stderr
        super().emit(record)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    text = record.getMessage().lower()
    return not any(word in text for word in _ADVERTISEMENTS)
