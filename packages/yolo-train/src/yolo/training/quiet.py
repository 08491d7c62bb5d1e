"""Silencing messages that no user of a detector can act on."""

from __future__ import annotations

import logging
import warnings

_IGNORED = (
    r".*does not have many workers.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*'pin_memory' argument is set as true but no accelerator is found.*",
    r".*Starting from v1\.9\.0, `tensorboardX` has been removed.*",
    r".*Detected call of `lr_scheduler.step\(\)` before.*",
)


def quieten() -> None:
    """Filter known noise of Lightning and torch; everything else stays."""
    for pattern in _IGNORED:
        warnings.filterwarnings("ignore", message=pattern)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertisement)


def _no_advertisement(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return not ("litlogger" in text or "💡" in text or "litmodels" in text.lower())
