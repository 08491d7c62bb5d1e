"""Number formats that a training may have."""

from __future__ import annotations

from lightning.pytorch import Trainer

from yolo.core.errors import UsageError
from yolo.core.selftest import PRECISIONS

_WHY = {
    "16-true": "weights in half precision lose every step that is smaller than a thousandth of them",
    "bf16-true": "weights in half precision lose every step that is smaller than a hundredth of them, averages as well",
}


def check_precision(trainer: Trainer) -> None:
    """See that weights, optimiser and averages stay in float32.

    Raises:
        UsageError: they would not.
    """
    found = str(trainer.precision)
    if found not in PRECISIONS:
        why = _WHY.get(found, "it is not supported")
        raise UsageError(f"trainer.precision {found}: {why}; use {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")
