"""From files to batches: pure samples, any number of workers, letterbox as in prediction."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yolo.core.errors import YoloError
from yolo.core.letterbox import letterbox
from yolo.data.augment.configured import build_pipeline
from yolo.data.collate import collate
from yolo.data.config import DataConfig
from yolo.data.dataset import EvalDataset, TrainDataset
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loader import BatchLoader, build_loader
from yolo.data.loaders import DefaultImageLoader, ImageLoader
from yolo.data.sampler import SampleKey
from yolo.data.synthetic import ensure_synthetic
from yolo.data.types import Batch
from yolo.data.workers import affordable_workers, files_needed, prepare_worker, usable_workers

S = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_synthetic(tmp_path_factory.mktemp("data") / "shapes", train=9, val=5, image_size=96)


@pytest.fixture(scope="module")
def table(root: Path) -> LabelTable:
    return load_labels(DataConfig(root=str(root)), "train")


def config(**changes: object) -> DataConfig:
    options: dict[str, object] = {"image_size": S, "batch_size": 4, "num_workers": 0, "close_mosaic_epochs": 2}
    return DataConfig(**(options | changes))  # type: ignore[arg-type]


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(value, vars(second)[name]) for name, value in vars(first).items())


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo.data.workers._cores", lambda: 8)


@pytest.mark.usefixtures("cores")
def test_the_same_batches_for_any_number_of_workers(table: LabelTable) -> None:
    loaders = [build_loader(config(num_workers=number), table, training=True, max_epochs=9) for number in (0, 1, 2)]
    assert [loader.num_workers for loader in loaders] == [0, 1, 2]
    for epoch in (0, 1):
        for loader in loaders:
            loader.batches.set_epoch(epoch)
        for several in zip(*loaders, strict=True):
            assert all(same(several[0], other) for other in several[1:])


def test_a_sample_depends_on_seed_epoch_and_index_only(table: LabelTable) -> None:
    first, second = (build_loader(config(), table, training=True).dataset for _ in range(2))
    keys = [SampleKey(epoch, index) for epoch in (0, 1) for index in (0, 1)]
    made = [first[key] for key in keys]
    for key, sample in reversed(list(zip(keys, made, strict=True))):
        np.testing.assert_array_equal(second[key].image, sample.image)
    assert len({sample.image.tobytes() for sample in made}) == 4
    other = build_loader(config(seed=1), table, training=True).dataset
    assert not np.array_equal(other[keys[0]].image, made[0].image)


@pytest.mark.usefixtures("cores")
def test_close_mosaic_reaches_persistent_spawned_workers(table: LabelTable) -> None:
    """Such workers got their copy of the data set before the first epoch, and keep it."""
    still = config(
        num_workers=1, scale=0.0, translate=0.0, hsv_h=0.0, hsv_s=0.0, hsv_v=0.0, flip_lr=0.0, close_mosaic_epochs=1
    )
    loader = build_loader(still, table, training=True, max_epochs=3, context="spawn")
    assert loader.persistent_workers
    letterboxed = EvalDataset(table, DefaultImageLoader(), (S, S))
    plain = []
    for epoch in range(3):
        loader.batches.set_epoch(epoch)
        for batch in loader:
            expected = collate([letterboxed[int(index)] for index in batch.ids]).images
            plain.append((epoch, (expected.int() - batch.images.int()).abs().max().item() <= 2))
    assert {done for epoch, done in plain if epoch == 2} == {True}
    assert {done for epoch, done in plain if epoch < 2} == {False}


def test_evaluation_is_the_letterbox_of_prediction(table: LabelTable, datasets: Path) -> None:
    bccd = load_labels(DataConfig(root=str(datasets / "bccd")), "val")
    dataset = EvalDataset(bccd, DefaultImageLoader(), (320, 256))
    sample = dataset[3]
    canvas, geometry = letterbox(DefaultImageLoader().read(bccd.path(3)), (320, 256))
    np.testing.assert_array_equal(sample.image, canvas)
    np.testing.assert_array_equal(sample.matrix, geometry.matrix)
    assert sample.source_size == (640, 480) and len(sample.targets) == len(bccd.targets(3))


class OtherSize(ImageLoader):
    """Hands out pictures of another size than the file's: smaller (a reduced decode), or lying on their side."""

    def __init__(self, *, divide: int = 1, turn: bool = False) -> None:
        self.divide, self.turn = divide, turn

    def __call__(self, path: str) -> np.ndarray:
        image = DefaultImageLoader().read(path)[:: self.divide, :: self.divide]
        return np.rot90(image) if self.turn else image


def test_nothing_is_decoded_before_it_is_drawn(table: LabelTable) -> None:
    """A whole batch is worked out first; each sample is the same as when it is asked for alone."""
    read: list[str] = []

    class Telling(DefaultImageLoader):
        def __call__(self, path: str) -> np.ndarray:
            read.append(path)
            return super().__call__(path)

    pipeline = build_pipeline(config(mosaic_prob=0.5, mixup_prob=0.5, cutmix_prob=0.5))
    dataset = TrainDataset(table, Telling(), pipeline, seed=0)
    keys = [SampleKey(0, index) for index in range(len(table))]
    prepared = [dataset._prepare(key, dataset._context(key), dataset) for key in keys]
    assert not read
    for sample, one, key in zip(dataset.__getitems__(keys), prepared, keys, strict=True):
        for other in (pipeline.make(one), dataset[key]):
            np.testing.assert_array_equal(sample.image, other.image)
            np.testing.assert_array_equal(sample.targets.boxes, other.targets.boxes)
    assert read


def test_labels_fit_a_picture_that_the_loader_made_smaller(datasets: Path) -> None:
    bccd = load_labels(DataConfig(root=str(datasets / "bccd")), "val")
    still = config(scale=0.0, translate=0.0, hsv_h=0.0, hsv_s=0.0, hsv_v=0.0, flip_lr=0.0, mosaic_prob=0.0)
    pipeline = build_pipeline(still)
    for make in (
        lambda loader: EvalDataset(bccd, loader, (320, 256))[3],
        lambda loader: TrainDataset(bccd, loader, pipeline, seed=0)[SampleKey(0, 3)],
    ):
        full, half = make(DefaultImageLoader()), make(OtherSize(divide=2))
        np.testing.assert_allclose(half.targets.boxes, full.targets.boxes, atol=0.5)
        assert half.source_size == full.source_size == (640, 480)
        np.testing.assert_allclose(half.matrix, full.matrix, atol=0.01)
        assert np.abs(half.image.astype(int) - full.image).mean() < 8


def test_a_picture_of_another_shape_than_the_labels_is_refused(datasets: Path) -> None:
    """A loader that ignores the EXIF orientation, or a file that was replaced: never boxes in the wrong place."""
    bccd = load_labels(DataConfig(root=str(datasets / "bccd")), "val")
    message = r"returned 480x640 pixels, but the labels belong to 640x480: is the EXIF"
    with pytest.raises(YoloError, match=message):
        EvalDataset(bccd, OtherSize(turn=True), (320, 256))[3]
    with pytest.raises(YoloError, match=message):
        TrainDataset(bccd, OtherSize(turn=True), build_pipeline(config()), seed=0)[SampleKey(0, 3)]


def test_evaluation_batches_in_order(root: Path) -> None:
    table = load_labels(DataConfig(root=str(root)), "val")
    loader = build_loader(config(), table, training=False)
    assert torch.cat([batch.ids for batch in loader]).tolist() == [0, 1, 2, 3, 4]
    shares = [build_loader(config(), table, training=False, rank=rank, world_size=2) for rank in (0, 1)]
    assert sorted(index for share in shares for batch in share for index in batch.ids.tolist()) == [0, 1, 2, 3, 4]


def test_collate_shapes_and_types(table: LabelTable) -> None:
    dataset = build_loader(config(image_size=[96, 64]), table, training=True).dataset
    samples = dataset.__getitems__([SampleKey(0, index) for index in range(3)])
    batch = collate(samples)
    assert batch.images.shape == (3, 3, 64, 96) and batch.images.dtype == torch.uint8
    for image, sample in zip(batch.images, samples, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), sample.image)
    counts = [len(sample.targets) for sample in samples]
    assert batch.image_index.tolist() == [i for i, count in enumerate(counts) for _ in range(count)]
    assert batch.boxes.dtype == torch.float32 and batch.boxes.shape == (sum(counts), 4)
    assert batch.labels.dtype == batch.ids.dtype == batch.image_index.dtype == batch.source_sizes.dtype == torch.int64
    assert batch.matrices.shape == (3, 3, 3) and batch.matrices.dtype == torch.float64


def test_a_batch_without_boxes(table: LabelTable) -> None:
    empty = [EvalDataset(table, DefaultImageLoader(), (S, S))[0] for _ in range(2)]
    stripped = [type(sample)(sample.image, sample.targets.select(np.zeros(0, int)), 0, (S, S)) for sample in empty]
    batch = collate(stripped)
    assert batch.boxes.shape == (0, 4) and batch.image_index.shape == (0,)
    assert batch.image_index.dtype == torch.int64


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("workers", [0, 2])
def test_continue_in_the_middle_of_an_epoch(table: LabelTable, workers: int) -> None:
    """The state counts what was handed out, not what was prefetched."""

    def fresh() -> BatchLoader:
        return build_loader(config(batch_size=2, num_workers=workers), table, training=True, max_epochs=9)

    loader = fresh()
    loader.batches.set_epoch(3)
    whole = list(loader)
    part = iter(loader)
    next(part), next(part)
    state = loader.state_dict()
    assert state == {"epoch": 3, "batch": 2}
    again = fresh()
    again.load_state_dict(state)
    rest = list(again)
    assert len(rest) == 3 and all(same(a, b) for a, b in zip(rest, whole[2:], strict=True))
    assert len(again) == 5, "the length stays that of the whole epoch"
    assert again.state_dict() == {"epoch": 3, "batch": 5}
    after = fresh()
    after.load_state_dict(again.state_dict())
    assert (after.batches.epoch, after.batches.start_batch) == (4, 0)


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_file_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    """Torch puts a worker's whole traceback into the message of what it raised."""
    root = ensure_synthetic(tmp_path / "shapes", train=2, val=1, image_size=64)
    table = load_labels(DataConfig(root=str(root)), "train")
    Path(table.path(1)).write_bytes(b"not a picture")
    with pytest.raises(YoloError, match=r"train_00001\.jpg") as caught:
        list(build_loader(config(num_workers=workers, mosaic_prob=0.0), table, training=True))
    assert "\n" not in str(caught.value)


def test_workers_are_pinned_to_one_thread() -> None:
    threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        prepare_worker(0)
        assert torch.get_num_threads() == 1 and cv2.getNumThreads() <= 1
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def test_open_file_rule() -> None:
    assert files_needed(128) == 2920
    assert affordable_workers(128, 2920) == affordable_workers(128, None) == 128
    assert affordable_workers(128, 2919) == 127
    assert affordable_workers(128, 1024) == 40
    assert affordable_workers(8, 1024) == 8
    assert affordable_workers(4, 10) == 1 and affordable_workers(0, 10) == 0


def test_lowering_workers_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("yolo.data.workers.open_file_limit", lambda: 1024)
    monkeypatch.setattr("yolo.data.workers._cores", lambda: 64)
    with caplog.at_level(logging.INFO, "yolo.data"):
        assert usable_workers(128) == 40
    assert "Reducing num_workers: 128 → 40 (ulimit -n = 1024)." in caplog.text
    assert "To use 128 workers, run: ulimit -n 2920" in caplog.text
    caplog.clear()
    monkeypatch.setattr("yolo.data.workers._cores", lambda: 4)
    with caplog.at_level(logging.INFO, "yolo.data"):
        assert usable_workers(8) == 4 and usable_workers(4) == 4
    assert caplog.text.count("num_workers: 4 instead of 8") == 1


def test_a_run_without_mosaic_is_said(table: LabelTable, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "yolo.data"):
        build_loader(config(close_mosaic_epochs=15), table, training=True, max_epochs=3)
    assert "No mosaic in this run" in caplog.text
