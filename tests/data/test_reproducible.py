"""A batch is a function of (seed, epoch, batch), with everything switched on, whoever makes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from yolo.data.augment.base import BatchAugmentation
from yolo.data.augment.configured import build_pipeline
from yolo.data.augment.pipeline import Chance
from yolo.data.config import DataConfig
from yolo.data.dataset import TrainDataset
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loader import BatchLoader, build_loader
from yolo.data.loaders import DefaultImageLoader, ImageLoader
from yolo.data.sampler import SampleKey
from yolo.data.synthetic import ensure_synthetic
from yolo.data.types import Batch, Sample

S = 64
EVERYTHING: dict[str, Any] = {
    "mosaic_prob": 0.6,
    "mosaic_9_prob": 0.4,
    "mixup_prob": 0.5,
    "cutmix_prob": 0.5,
    "bbox_mosaic": {"prob": 0.3},
    "degrees": 10.0,
    "shear": 2.0,
    "perspective": 0.0005,
    "flip_ud": 0.3,
    "augmentations": [{"use": "rain", "p": 0.4}],
}
MODES = {
    "plain": {"scaled_decode": False},
    "scaled": {"scaled_decode": True, "image_loader": "turbojpeg"},
    "shared": {"scaled_decode": True, "share_decoded": True},
    "upright": {"scaled_decode": True, "degrees": 0.0, "shear": 0.0, "perspective": 0.0, "image_loader": "turbojpeg"},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    root = ensure_synthetic(tmp_path_factory.mktemp("data") / "shapes", train=22, val=1, image_size=160)
    return load_labels(DataConfig(root=str(root)), "train")


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo.data.workers._cores", lambda: 8)


def config(**changes: Any) -> DataConfig:
    settings: dict[str, Any] = {"image_size": S, "batch_size": 5, "num_workers": 0, "close_mosaic_epochs": 2, "seed": 3}
    return DataConfig(**(settings | EVERYTHING | changes))


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(value, vars(second)[name]) for name, value in vars(first).items())


@pytest.mark.parametrize("mode", MODES)
def test_the_same_batches_for_0_2_and_4_workers(table: LabelTable, mode: str) -> None:
    loaders = [
        build_loader(config(num_workers=number, **MODES[mode]), table, training=True, max_epochs=4)
        for number in (0, 2, 4)
    ]
    assert [loader.num_workers for loader in loaders] == [0, 2, 4]
    seen = set()
    for epoch in (0, 3):  # the last two are closing epochs
        for loader in loaders:
            loader.batches.set_epoch(epoch)
        for several in zip(*loaders, strict=True):
            assert all(same(several[0], other) for other in several[1:])
            seen.add(several[0].images.numpy().tobytes())
    assert len(seen) == 2 * len(loaders[0])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mode", MODES)
def test_the_same_batches_after_a_restart_within_an_epoch(table: LabelTable, mode: str, workers: int) -> None:
    def fresh() -> BatchLoader:
        return build_loader(config(num_workers=workers, **MODES[mode]), table, training=True, max_epochs=9)

    loader = fresh()
    loader.batches.set_epoch(2)
    whole = list(loader)
    part = iter(loader)
    next(part)
    next(part)
    again = fresh()
    again.load_state_dict(loader.state_dict())
    rest = list(again)
    assert len(rest) == len(whole) - 2
    assert all(same(a, b) for a, b in zip(rest, whole[2:], strict=True))


def test_everything_is_really_on(table: LabelTable) -> None:
    dataset = build_loader(config(), table, training=True).dataset
    assert isinstance(dataset, TrainDataset)
    names = set()
    for index in range(len(table)):
        context = dataset._context(SampleKey(0, index))
        plan = dataset.pipeline.draw(dataset._rng(0, index), context, mix=True)
        names |= {type(plan.picture.layout).__name__}
        names |= {type(step[0]).__name__ for step in (*plan.mixes, *plan.steps)}
    assert names >= {"LetterBox", "Mosaic", "Mosaic9", "BBoxMosaic", "MixUp", "CutMix", "Rain", "RandomHSV"}


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_the_closing_epochs_reach_persistent_workers(table: LabelTable, context: str) -> None:
    """In them a batch is that of a configuration without mosaics and mixes; before them it is not."""
    loader = build_loader(config(num_workers=1), table, training=True, max_epochs=4, context=context)
    alone = config(mosaic_prob=0.0, mixup_prob=0.0, cutmix_prob=0.0, bbox_mosaic={"prob": 0.0})
    plain = build_loader(alone, table, training=True)
    assert loader.persistent_workers
    equal = []
    for epoch in range(4):
        for one in (loader, plain):
            one.batches.set_epoch(epoch)
        equal.append([same(*pair) for pair in zip(loader, plain, strict=True)])
    assert not any(equal[0] + equal[1])
    assert all(equal[2] + equal[3])


class ThreadCounts(ImageLoader):
    """Pictures that are filled with the numbers of threads that this process uses."""

    def __call__(self, path: str) -> np.ndarray:
        shape = DefaultImageLoader().read(path).shape
        return np.broadcast_to(np.array([cv2.getNumThreads(), torch.get_num_threads(), 1], np.uint8), shape)


def test_workers_use_one_thread(table: LabelTable) -> None:
    loader = build_loader(config(num_workers=1), table, training=False, context="fork")
    loader.dataset.loader = ThreadCounts()  # type: ignore[attr-defined]
    for batch in loader:
        middle = batch.images[:, :, S // 2, S // 2]
        assert (middle[:, 0] <= 1).all(), "OpenCV"
        assert (middle[:, 1] == 1).all(), "torch"


@dataclass(frozen=True)
class Order:
    """A permutation."""

    order: tuple[int, ...]


class Exchange(BatchAugmentation[Order]):
    """Gives every sample of a batch the picture of another."""

    def draw(self, rng: np.random.Generator, context: Any) -> Order:
        return Order(tuple(rng.permutation(64).tolist()))

    def apply(self, samples: Any, params: Order) -> list[Sample]:
        order = [place for place in params.order if place < len(samples)]
        return [replace(sample, image=samples[place].image) for sample, place in zip(samples, order, strict=True)]


def test_the_batch_stage_is_reproducible_too(table: LabelTable) -> None:
    pipeline = replace(build_pipeline(config()), batches=[Chance(Exchange(), 0.5)])
    keys = [[SampleKey(epoch, index) for index in range(start, start + 5)] for epoch in (0, 1) for start in (0, 5, 10)]

    def make(order: list[list[SampleKey]]) -> dict[Any, bytes]:
        dataset = TrainDataset(table, DefaultImageLoader(), pipeline, seed=1, scaled_decode=True, share_decoded=True)
        return {tuple(part): b"".join(s.image.tobytes() for s in dataset.__getitems__(part)) for part in order}

    assert make(keys) == make(keys[::-1])
