"""Names, places and keys of checkpoints."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from yolo.training.callbacks import YOLOCheckpoint

SPECIFIED = "{name}-{epoch:02d}-mAP={val/mAP:.4f}"


def test_a_metric_with_a_slash_gives_its_value_and_no_folder(tmp_path: Path) -> None:
    callback = YOLOCheckpoint(filename=SPECIFIED)
    trainer = Trainer(logger=CSVLogger(tmp_path, name="simpsons"), accelerator="cpu", enable_checkpointing=False)
    callback.setup(trainer, None, "fit")
    name = callback.format_checkpoint_name({"epoch": torch.tensor(5), "val/mAP": torch.tensor(0.45231)})
    assert Path(name) == tmp_path / "simpsons" / "version_0" / "checkpoints" / "simpsons-epoch=05-mAP=0.4523.ckpt"


def test_a_fixed_name_stays(tmp_path: Path) -> None:
    assert YOLOCheckpoint(filename="best").format_checkpoint_name({}) == "best.ckpt"


def test_a_relative_folder_lies_in_the_run_and_an_absolute_one_stays(tmp_path: Path) -> None:
    trainer = Trainer(logger=CSVLogger(tmp_path, name="run"), accelerator="cpu", enable_checkpointing=False)
    relative, absolute = YOLOCheckpoint(dirpath="weights/"), YOLOCheckpoint(dirpath=tmp_path / "elsewhere")
    for callback in (relative, absolute):
        callback.setup(trainer, None, "fit")
    assert Path(relative.dirpath) == tmp_path / "run" / "version_0" / "weights"
    assert Path(absolute.dirpath) == tmp_path / "elsewhere"


def test_two_with_one_monitor_have_two_state_keys() -> None:
    one, two = YOLOCheckpoint(filename=SPECIFIED, save_top_k=3), YOLOCheckpoint(filename="best")
    assert one.state_key != two.state_key
    Trainer(callbacks=[one, two], logger=False, accelerator="cpu")
