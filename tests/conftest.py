"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("YOLO_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference data and real images that lies beside the checkout."""
    if not SHARED.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SHARED} is missing, and CI=true forbids skipping")
        pytest.skip(f"{SHARED} is not here: clone beside the shared folder, or set YOLO_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def reference(shared: Path) -> Path:
    """Golden facts about networks, losses, post-processing and metrics."""
    return shared / "reference"


@pytest.fixture(scope="session")
def datasets(shared: Path) -> Path:
    """The real and the hostile data sets."""
    return shared / "datasets"
