"""Decoding no more than a sample shows, and each file of a batch once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from yolo.data.augment.configured import build_pipeline
from yolo.data.augment.pipeline import Pipeline
from yolo.data.config import DataConfig
from yolo.data.dataset import TrainDataset
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loaders import DefaultImageLoader, ImageLoader, TurboJPEGLoader
from yolo.data.loaders.turbojpeg import open_turbojpeg
from yolo.data.sampler import SampleKey
from yolo.data.sharing import SharedReader, shared_pool
from yolo.data.synthetic import ensure_synthetic

S = 64


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    root = ensure_synthetic(tmp_path_factory.mktemp("data") / "shapes", train=20, val=1, image_size=160)
    return load_labels(DataConfig(root=str(root)), "train")


class Counting(ImageLoader):
    """Counts what it decodes."""

    can_reduce = True

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.least: list[tuple[int, int] | None] = []

    def __call__(self, path: str) -> np.ndarray:
        self.seen.append(path)
        self.least.append(None)
        return DefaultImageLoader().read(path)

    def reduced(self, path: str, least: tuple[int, int]) -> np.ndarray:
        self.seen.append(path)
        self.least.append(least)
        return DefaultImageLoader().read(path, least=least)


def mosaics(**changes: Any) -> Pipeline:
    return build_pipeline(DataConfig(image_size=S, mosaic_prob=1.0, mixup_prob=0.0, scale=0.5, **changes))


@pytest.mark.parametrize("scaled", [False, True])
def test_a_shared_batch_decodes_each_file_once(table: LabelTable, scaled: bool) -> None:
    loader = Counting()
    dataset = TrainDataset(table, loader, mosaics(), seed=0, scaled_decode=scaled, share_decoded=True)
    keys = [SampleKey(0, index) for index in range(3, 11)]
    dataset.__getitems__(keys)
    assert len(loader.seen) == len(set(loader.seen))
    assert set(loader.seen) <= {table.path(key.index) for key in keys}
    dataset.share_decoded = False
    loader.seen.clear()
    dataset.__getitems__(keys)
    assert len(loader.seen) > 16, "else the test shows nothing"


def test_a_shared_batch_is_made_of_its_own_pictures(table: LabelTable) -> None:
    dataset = TrainDataset(table, DefaultImageLoader(), mosaics(), seed=0, share_decoded=True)
    keys = [SampleKey(0, index) for index in (1, 4, 9, 16)]
    pool = shared_pool(key.index for key in keys)
    drawn = {
        index
        for key in keys
        for index in dataset.pipeline.draw(
            dataset._rng(0, key.index), replace(dataset._context(key), pool=pool), mix=True
        ).picture.arrangement.partners
    }
    assert drawn <= {1, 4, 9, 16}


def test_too_few_pictures_are_not_shared() -> None:
    assert shared_pool([7, 8, 7, 8]) == () == shared_pool([1, 2, 3])
    assert shared_pool([3, 1, 2, 1, 9]) == (3, 1, 2, 9)


def test_a_shared_picture_is_decoded_again_only_when_it_is_too_small(table: LabelTable) -> None:
    loader = Counting()
    dataset = TrainDataset(table, loader, mosaics(), seed=0, scaled_decode=True)
    reader = SharedReader(dataset, (32, 32))
    assert reader.read(0, least=(8, 8)).image.shape == (80, 80, 3)  # for twice the canvas
    assert reader.read(0, least=(64, 64)).image.shape == (80, 80, 3)
    assert reader.read(0, least=(100, 90)).image.shape == (160, 160, 3)
    assert reader.read(0).image.shape == (160, 160, 3)
    assert loader.least == [(64, 64), (100, 90), None]
    reader.read(0, least=(160, 160))
    assert len(loader.seen) == 3
    assert reader.size(0) == (160, 160) and len(reader.targets(0)) == len(table.targets(0))


def test_only_what_a_sample_shows_is_decoded(table: LabelTable) -> None:
    """Without scaled_decode, all of it; the boxes are the same, the pixels nearly."""
    config = DataConfig(image_size=S, mosaic_prob=1.0, mixup_prob=0.0, scale=0.9, hsv_h=0, hsv_s=0, hsv_v=0)
    pipeline, loader = build_pipeline(config), Counting()
    scaled = TrainDataset(table, loader, pipeline, seed=0, scaled_decode=True)
    full = TrainDataset(table, DefaultImageLoader(), pipeline, seed=0)
    for index in range(len(table)):
        a, b = scaled[SampleKey(0, index)], full[SampleKey(0, index)]
        np.testing.assert_array_equal(a.targets.boxes, b.targets.boxes)
        assert np.abs(a.image.astype(int) - b.image).mean() < 6
    assert all(least is not None for least in loader.least)


def test_rows_that_are_not_shown_do_not_matter(table: LabelTable) -> None:
    """A decoder that leaves out rows gives the same samples, pixel by pixel."""
    if open_turbojpeg() is None:
        pytest.skip("the system's libjpeg-turbo is not here")
    pipeline = mosaics()
    loader = TurboJPEGLoader()
    samples = []
    for crops in (True, False):
        dataset = TrainDataset(table, loader, pipeline, seed=0, scaled_decode=True)
        loader.can_crop = crops  # type: ignore[misc]  # on this instance
        samples.append([dataset[SampleKey(0, index)].image for index in range(len(table))])
    for a, b in zip(*samples, strict=True):
        np.testing.assert_array_equal(a, b)
