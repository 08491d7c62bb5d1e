"""What a person sees while a training runs."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from yolo.training.callbacks import TrainingSummaryCallback, YOLOProgressBar
from yolo.training.datamodule import YOLODataModule
from yolo.training.module import YOLOModule


def fit(data: Path, *callbacks: object) -> None:
    Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
        use_distributed_sampler=False, num_sanity_val_steps=0, callbacks=list(callbacks), check_val_every_n_epoch=2,
    ).fit(
        YOLOModule(model_config="v9-t"),
        datamodule=YOLODataModule(root=str(data), image_size=64, batch_size=4, num_workers=0),
    )  # fmt: skip


def test_without_a_terminal_lines_show_epoch_losses_rate_and_time(
    tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tiny_data, YOLOProgressBar(), TrainingSummaryCallback())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch")]
    assert lines[0].startswith("Epoch 1/2  1/2  box ")
    assert all(word in lines[0] for word in (" cls ", " dfl ", " lr ", " left"))
    assert lines[1].startswith("Epoch 1/2  2/2 ")
    assert lines[2].startswith("Epoch 1/2 done in")
    assert "mAP" not in lines[2], "this epoch was not validated"
    assert lines[4].endswith("0:00:00 left")
    assert "mAP " in lines[5] and "new best" in lines[5]


def test_disabled_nothing_is_shown(tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tiny_data, YOLOProgressBar(enabled=False), TrainingSummaryCallback(enabled=False))
    assert "Epoch" not in capsys.readouterr().out
