"""Image loaders from elsewhere: files that they leave open, and what cannot travel to a worker."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loader import build_loader
from yolo.data.loaders import ImageLoader
from yolo.data.loaders.choose import check_picklable
from yolo.data.synthetic import ensure_synthetic


class LazyLoader(ImageLoader):
    """Returns pictures that are not decoded yet, as `return Image.open(...)` does."""

    def __init__(self, *, by_path: bool = False) -> None:
        self.by_path = by_path
        self.opened: list[IO[bytes] | None] = []

    def __call__(self, path: str) -> Image.Image:
        file = None if self.by_path else Path(path).open("rb")  # noqa: SIM115  # left open on purpose
        image = Image.open(file or path)
        self.opened.append(image.fp)
        return image


@pytest.mark.parametrize("by_path", [True, False])
@pytest.mark.parametrize("suffix", [".png", ".gif", ".jpg"])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_lazily_opened_picture_is_closed(tmp_path: Path, suffix: str, by_path: bool, damaged: bool) -> None:
    path, loader = tmp_path / f"a{suffix}", LazyLoader(by_path=by_path)
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    frames = [Image.fromarray(frame) for frame in noise]
    frames[0].save(path, **({"save_all": True, "append_images": frames[1:]} if suffix == ".gif" else {}))
    if damaged:
        path.write_bytes(path.read_bytes()[:1500])
        with pytest.raises(YoloError, match=path.name):
            loader.read(str(path))
    else:
        assert loader.read(str(path)).shape == (64, 64, 3)
    assert [file.closed for file in loader.opened if file is not None] == [True]


class Decoded(LazyLoader):
    """Keeps its pictures, decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = Image.new("RGB", (8, 8))

    def __call__(self, path: str) -> Image.Image:
        return self.kept


def test_a_picture_that_the_loader_keeps_stays_usable() -> None:
    loader = Decoded()
    assert loader.read("x").shape == loader.read("x").shape == (8, 8, 3)


class Client(LazyLoader):
    """Made in __init__, against the advice."""

    def __init__(self, *, client: Any = None) -> None:
        super().__init__()
        self.client = client or threading.Lock()


@pytest.fixture
def table(tmp_path: Path) -> LabelTable:
    root = ensure_synthetic(tmp_path / "data", train=2, val=1, image_size=64)
    return load_labels(DataConfig(root=str(root), format="coco"), "val")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_loader_that_cannot_travel_is_refused_before_workers_start(table: LabelTable, method: str) -> None:
    loader = {"class_path": f"{__name__}.Client"}
    config = DataConfig(image_size=64, num_workers=1, batch_size=1, image_loader=loader)
    wanted = r"^data\.image_loader: Client cannot be sent .* must be picklable \(TypeError: .*lock.*num_workers to 0$"
    with pytest.raises(UsageError, match=wanted):
        build_loader(config, table, training=False, context=method)
    for kept in (config, DataConfig(image_size=64, num_workers=0, image_loader=loader)):
        assert build_loader(kept, table, training=False, context="fork")  # a forked worker has it already


def test_arguments_count_too_and_locks_of_workers_may_travel() -> None:
    with pytest.raises(UsageError, match=r"Client cannot be sent .*lambda"):
        check_picklable(Client(client=lambda: None))
    check_picklable(Client(client=multiprocessing.Lock()))
    check_picklable(Client(client="name"))
