"""Pictures of a training: of its batches, and of predictions beside the truth."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from yolo.core.errors import UsageError
from yolo.core.results import Detections
from yolo.data.config import DataConfig
from yolo.data.types import Batch
from yolo.training.callbacks import (
    RateCurves,
    RunRecord,
    TrainingPictures,
    TrainingSummaryCallback,
    YOLOProgressBar,
    pictures,
)
from yolo.training.datamodule import YOLODataModule
from yolo.training.module import YOLOModule
from yolo.training.showcase import TILE, batch_sheet, pairs_sheet, spread


class Album(Logger):
    """Takes pictures as W&B's logger does."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[str, int, tuple[int, ...]]] = []

    name = property(lambda self: "album")
    version = property(lambda self: "1")

    def log_metrics(self, metrics, step=None) -> None:
        pass

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        pass

    def log_image(self, key: str, images: list, step: int | None = None) -> None:
        self.taken += [(key, step, image.shape) for image in images]


def fit(network: Path, data: Path, root: Path, *callbacks: Callback, epochs: int = 4, **options) -> YOLOModule:
    module = YOLOModule(model_config=str(network))
    loggers = [TensorBoardLogger(root, name="t", version=0), CSVLogger(root, name="t", version=0), Album()]
    trainer = Trainer(**{
        "max_epochs": epochs, "accelerator": "cpu", "logger": loggers, "enable_checkpointing": False,
        "enable_model_summary": False, "use_distributed_sampler": False,
        "enable_progress_bar": any(isinstance(callback, YOLOProgressBar) for callback in callbacks),
        "num_sanity_val_steps": 1, "callbacks": list(callbacks), "log_every_n_steps": 1, **options,
    })  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(
        module,
        datamodule=YOLODataModule(
            root=str(data), image_size=64, batch_size=4, num_workers=0, close_mosaic_epochs=1, seed=0
        ),
    )
    module.album = loggers[2].taken
    return module


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_pictures_are_drawn_when_it_is_time_and_reach_files_and_loggers(
    small_network: Path, tiny_data: Path, tmp_path: Path
) -> None:
    callback = TrainingPictures(every_n_epochs=2, images=3)
    module = fit(small_network, tiny_data, tmp_path, callback)
    run = tmp_path / "t" / "version_0"
    files = sorted(str(path.relative_to(run)) for path in run.rglob("*.jpg"))
    assert files == [
        "metrics/epoch_2/predictions.jpg", "metrics/epoch_4/predictions.jpg", "train_batch.jpg",
        "train_batch_without_mosaic.jpg",
    ]  # fmt: skip
    assert all(read(run / name).std() > 20 for name in files), "none is blank"

    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    steps = {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}
    assert steps == {
        "pictures/train_batch": [0], "pictures/train_batch_without_mosaic": [6], "pictures/predictions": [3, 7],
    }  # fmt: skip
    logged = Image.open(io.BytesIO(events.Images("pictures/train_batch")[0].encoded_image_string)).convert("RGB")
    written = read(run / "train_batch.jpg").astype(int)
    assert np.abs(np.asarray(logged).astype(int) - written).mean() < 4, "the same, but for the JPEG"

    size = written.shape
    assert [entry for entry in module.album if "batch" in entry[0]] == [
        ("pictures/train_batch", 0, size), ("pictures/train_batch_without_mosaic", 6, size),
    ]  # fmt: skip
    assert [entry[:2] for entry in module.album if "pred" in entry[0]] == [
        ("pictures/predictions", 3), ("pictures/predictions", 7),
    ]  # fmt: skip


def test_what_people_see_does_not_change_the_training(
    small_network: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = []
    for on in (True, False):
        shown = (TrainingSummaryCallback(enabled=on), RateCurves(on), YOLOProgressBar(on), RunRecord(on, images=0))
        module = fit(
            small_network, tiny_data, tmp_path / str(on), TrainingPictures(on, every_n_epochs=1), *shown, epochs=2
        )
        states.append(module.model.state_dict())
        text = capsys.readouterr().out
        assert ("Memory     about" in text) == ("new best" in text.lower()) == on
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not list((tmp_path / "False").rglob("*.jpg"))


def test_a_resumed_run_draws_nothing_twice() -> None:
    callback = TrainingPictures(every_n_epochs=10)
    due = [
        epoch
        for epoch in (3, 6, 9, 12, 15, 18, 21)
        if callback._is_time(epoch) and not setattr(callback, "_last", epoch)
    ]
    assert due == [12, 21], "every third epoch is validated: the first one at or behind 10 and 20"
    callback._drawn.append("train_batch")
    again = TrainingPictures(every_n_epochs=10)
    again.load_state_dict(callback.state_dict())
    assert (again._drawn, again._is_time(24), again._is_time(30)) == (["train_batch"], False, True)
    assert not any(TrainingPictures(every_n_epochs=0)._is_time(epoch) for epoch in range(1, 100))


@pytest.mark.parametrize(
    ("epoch", "settings", "name"),
    [
        (0, {}, "train_batch"),
        (84, {}, None),
        (85, {}, "train_batch_without_mosaic"),
        (86, {}, None),
        (85, {"mosaic_prob": 0.0}, None),
        (0, {"close_mosaic_epochs": 100}, "train_batch"),
    ],
)
def test_batches_are_drawn_where_they_change(epoch: int, settings: dict, name: str | None) -> None:
    class At:
        current_epoch, max_epochs = epoch, 100

    assert pictures._name_of_batch(At, DataConfig(**settings)) == name


def test_encrypted_images_are_not_drawn(
    small_network: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo.data.loaders import DefaultImageLoader

    monkeypatch.setattr(DefaultImageLoader, "confidential", True)
    module = fit(small_network, tiny_data, tmp_path, TrainingPictures(every_n_epochs=1), epochs=2)
    assert module.album == []
    assert not list(tmp_path.rglob("*.jpg"))


def test_the_boxes_of_a_batch_are_drawn_where_they_are_on_their_own_image() -> None:
    images = torch.full((3, 3, 64, 128), 100, dtype=torch.uint8)
    batch = Batch(
        images=images, boxes=torch.tensor([[16.0, 8.0, 48.0, 56.0], [64.0, 32.0, 120.0, 60.0]]),
        labels=torch.tensor([0, 1]), image_index=torch.tensor([0, 2]), ids=torch.arange(3),
        source_sizes=torch.tensor([[128, 64]] * 3), matrices=torch.eye(3).repeat(3, 1, 1),
    )  # fmt: skip
    sheet = batch_sheet(batch, ("cat", "dog"), count=16)
    tiles = [sheet[: TILE // 2, at * (TILE + 6) : at * (TILE + 6) + TILE] for at in range(3)]
    changed = [np.argwhere((tile != 100).any(-1)) for tile in tiles]
    assert len(changed[1]) == 0, "the second image has no box"
    factor = TILE / 128
    for at, (x1, y1, x2, y2) in ((0, (16, 8, 48, 56)), (2, (64, 32, 120, 60))):
        rows, columns = changed[at][:, 0], changed[at][:, 1]
        assert columns.min() == x1 * factor
        assert columns.max() == x2 * factor - 1
        assert rows.max() == y2 * factor - 1
        assert rows.min() <= y1 * factor, "a label stands above the box"
    assert batch_sheet(batch, ("cat", "dog"), count=2).shape[1] == 2 * (TILE + 6)


def test_predictions_stand_beside_their_truth() -> None:
    picture = np.full((40, 80, 3), 90, np.uint8)
    empty = Detections(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ("a",), size=(80, 40)
    )
    box = Detections(
        np.array([[8, 8, 40, 32]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), ("a",), size=(80, 40)
    )
    sheet = pairs_sheet([picture], [box], [empty], title="prediction")
    assert sheet.shape[1] == 2 * (TILE + 6)
    below = sheet[28 : 28 + TILE // 2]
    assert (below[:, :TILE] != 90).any()
    assert (below[:, TILE + 6 : -6] == 90).all()


def test_chosen_images_are_spread() -> None:
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(2, 6) == [0, 1]


@pytest.mark.parametrize("option", ["every_n_epochs", "images", "batch_images"])
def test_settings_that_make_no_sense_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=rf"pictures\.{option} is -1"):
        TrainingPictures(**{option: -1})
