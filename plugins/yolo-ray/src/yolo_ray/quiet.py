"""What people see of Ray: the output of the training."""

from __future__ import annotations

import logging


def quiet() -> None:
    """Let Ray Train log nothing; Ray runs this in each of its processes.

    Otherwise it warns every second that a dashboard is missing which we do not start, repeats every metric, and shows a
    traceback for an error that comes back to us anyway.
    """
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
