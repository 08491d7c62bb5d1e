"""``yolo fit``."""

from __future__ import annotations

from collections.abc import Sequence


def fit(args: Sequence[str]) -> int:
    """Hand the options to Lightning's command line (heavy imports wait until here)."""
    from yolo.training.messages import set_up_messages

    set_up_messages()
    from yolo.training.trainer_cli import run_fit

    return run_fit(args)
