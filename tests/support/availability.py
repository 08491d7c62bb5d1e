"""What a machine may lack: a test that needs it is skipped and says why; in CI, where it is installed, it fails."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def cannot_run(reason: str) -> NoReturn:
    """End the test: skipped, or failed where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true forbids skipping")
    pytest.skip(reason)


def tool(name: str) -> str:
    """Where a program is that ``.ci/run`` installs."""
    found = shutil.which(name)
    if found is None:
        cannot_run(f"{name} is not installed (.ci/run names the package that has it)")
    return found
