"""Fixtures of the tests that make caches."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """The folders of a test are removed: close the caches that lie in them."""
    yield
    readers = sys.modules.get("yolo.data.cache.readers")
    if readers is not None:
        readers.close_all()


@pytest.fixture(scope="session")
def made_cache(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Fill a cache of some splits of the synthetic data set, 96x96; keywords are settings of the data."""
    from yolo.data.cache.settings import cache_folder
    from yolo.data.cache.use import fill_cache
    from yolo.data.config import DataConfig
    from yolo.data.formats import load_labels

    def make(*splits: str, **changes: Any) -> Path:
        parent = tmp_path_factory.mktemp("caches")
        settings = {"format": "yolo", "image_size": 96, "cache_images": "disk", "cache_dir": str(parent)}
        config = DataConfig(root=str(synthetic_data), **settings | changes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", os.environ.copy())  # keys are handed on through it
            fill_cache(config, {split: load_labels(config, split) for split in splits})
        return cache_folder(config)

    return make


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where things lie that nobody may touch; ``in`` is the place to unpack into."""
    (tmp_path / "place" / "in").mkdir(parents=True)
    (tmp_path / "place" / "precious").write_text("outside")
    (tmp_path / "place" / "in" / "precious").write_text("inside")
    return tmp_path / "place"
