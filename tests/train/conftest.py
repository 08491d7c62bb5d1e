"""Data small enough for many short trainings."""

from pathlib import Path

import pytest

from yolo.data.synthetic import ensure_synthetic


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four validation pictures of 64 pixels, in both layouts."""
    return ensure_synthetic(tmp_path_factory.mktemp("tiny") / "data", train=8, val=4, image_size=64)
