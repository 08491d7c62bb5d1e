"""The fast part of the data check runs before a training, on labels that are read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo.core.errors import YoloError
from yolo.data.config import DataConfig
from yolo.data.labels import LabelTable
from yolo.training import datamodule
from yolo.training.datamodule import YOLODataModule


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that are read, in order."""
    splits: list[str] = []
    original = datamodule.load_labels

    def load(config: DataConfig, split: str) -> LabelTable:
        splits.append(split)
        return original(config, split)

    monkeypatch.setattr(datamodule, "load_labels", load)
    return splits


def test_labels_are_read_once(synthetic_data: Path, read: list[str], caplog: pytest.LogCaptureFixture) -> None:
    module = YOLODataModule(root=str(synthetic_data), num_workers=0)
    module.setup("fit")
    module.setup("fit")
    assert module.class_names
    assert read == ["train", "val"]
    assert not caplog.records


def test_measuring_on_training_images_is_told(synthetic_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = str(synthetic_data)
    data = YOLODataModule(
        root=root, val_images="images/train", val_ann="annotations/instances_train.json", num_workers=0
    )
    data.setup("fit")
    assert len(caplog.records) == 1
    assert "in train and in val: val measures on what was trained on (15 more like this)" in caplog.text


def test_training_without_a_box_is_refused(synthetic_data: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / split).symlink_to(synthetic_data / "images" / split)
        (tmp_path / "labels" / split).mkdir(parents=True)
        for image in (synthetic_data / "images" / split).iterdir():
            (tmp_path / "labels" / split / f"{image.stem}.txt").touch()
    (tmp_path / "data.yaml").write_text("names: [x]\n")
    with pytest.raises(YoloError, match="not one train image has a box"):
        YOLODataModule(root=str(tmp_path), format="yolo").setup("fit")
