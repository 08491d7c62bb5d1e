"""``yolo lr-plot``."""

from __future__ import annotations

from collections.abc import Sequence


def lr_plot(args: Sequence[str]) -> int:
    """Draw what a configuration gives (heavy imports wait until here)."""
    from yolo.training.messages import set_up_messages

    set_up_messages()
    from yolo.training.schedule_preview import run_preview

    return run_preview(args)
