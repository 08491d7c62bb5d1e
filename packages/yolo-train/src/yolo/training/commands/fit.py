"""``yolo fit``."""

from __future__ import annotations

from collections.abc import Sequence


def fit(args: Sequence[str]) -> int:
    """Hand the options to Lightning's command line (heavy imports wait until here)."""
    from yolo.training.messages import set_up_messages

    set_up_messages()
    if "--dry-run" in args:
        from yolo.training.dry_run import run_dry

        return run_dry(args)
    if any(arg.startswith("--find-lr") for arg in args):
        from yolo.training.tuning.find_lr import run_find_lr

        return run_find_lr(args)
    from yolo.training.trainer_cli import run_fit

    return run_fit(args)
