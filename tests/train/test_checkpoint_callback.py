"""Names, places and keys of checkpoints."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from yolo.training.callbacks import YOLOCheckpoint, YOLOEarlyStopping

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


def test_the_patience_of_the_command_holds_in_a_resumed_run() -> None:
    old, new = YOLOEarlyStopping(patience=2), YOLOEarlyStopping(patience=7)
    old.wait_count, old.best_score, old.best_epoch = 1, torch.tensor(0.25), 4
    new.load_state_dict(old.state_dict())
    assert (new.patience, new.wait_count, float(new.best_score), new.best_epoch) == (7, 1, 0.25, 4)


def test_a_linked_last_file_is_a_real_one_where_there_is_nothing_to_link_to(tmp_path: Path) -> None:
    callback, written = YOLOCheckpoint(dirpath=tmp_path, save_last="link"), []
    callback.dirpath = str(tmp_path)
    callback._last_checkpoint_saved, callback._last_global_step_saved = str(tmp_path / "best.ckpt"), 3
    trainer = Trainer(logger=False, accelerator="cpu", callbacks=[callback], max_epochs=1)
    trainer.save_checkpoint = lambda path, **_: written.append(Path(path).name)  # of step 0, not 3
    callback._last_is_due = True
    callback.write_last_if_due(trainer)
    assert written == ["last.ckpt"]


def test_what_a_kill_left_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / ".best.ckpt.part").write_bytes(b"half of it")
    trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    YOLOCheckpoint(dirpath=tmp_path).setup(trainer, None, "fit")
    assert list(tmp_path.iterdir()) == []
