"""The start: ``python -I worker``, where ``worker`` is this folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    # Python searches the folder that it is given. To be a package, this one has to be found in the folder above it,
    # which is searched for nothing else.
    sys.path[0] = str(Path(__file__).parents[1])
    job = importlib.import_module("worker.job")
    del sys.path[0]
    job.main()
