"""The files that a training keeps, from the command line, with the configuration of the documentation."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from yolo.core.errors import YoloError
from yolo.training.atomic_io import AtomicCheckpointIO
from yolo.training.metrics import Evaluation
from yolo.training.trainer_cli import make_cli, run_fit

SCORES = (0.1, 0.3, 0.2, 0.05, 0.4, 0.15)
CONFIG = """
trainer:
  logger:
    class_path: lightning.pytorch.loggers.TensorBoardLogger
    init_args: {save_dir: runs, name: simpsons}
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        dirpath: checkpoints/
        monitor: val/mAP
        mode: max
        save_top_k: 3
        save_last: true
        filename: "{name}-{epoch:02d}-mAP={val/mAP:.4f}"
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        dirpath: checkpoints/
        monitor: val/mAP
        mode: max
        save_top_k: 1
        filename: "best"
    - class_path: lightning.pytorch.callbacks.EarlyStopping
      init_args:
        monitor: val/mAP
        mode: max
        patience: 50
        verbose: true
        min_delta: 0.0
        check_on_train_epoch_end: false
"""


@pytest.fixture
def options(
    tiny_data: Path, small_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Options of a training of six epochs with known scores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("yolo.training.callbacks.record.draw_curves", lambda *_: None)
    (tmp_path / "run.yaml").write_text(CONFIG)
    computed: list[Evaluation] = []
    epochs: list[int] = []
    metrics, compute = Evaluation.metrics, "yolo.training.module.YOLOModule._evaluate"
    from yolo.training.module import YOLOModule

    evaluate = YOLOModule._evaluate

    def remember(self: YOLOModule, *args: Any) -> Evaluation:
        evaluation = evaluate(self, *args)
        computed.append(evaluation)
        epochs.append(self.trainer.current_epoch)
        return evaluation

    def known(self: Evaluation) -> dict[str, float]:
        at = next(index for index, one in enumerate(computed) if one is self)
        return {**metrics(self), "val/mAP": SCORES[epochs[at]]}

    monkeypatch.setattr(compute, remember)
    monkeypatch.setattr(Evaluation, "metrics", known)
    settings = {
        "data.root": tiny_data, "data.image_size": 64, "data.batch_size": 8, "data.num_workers": 0,
        "model.model_config": small_network, "trainer.max_epochs": 6, "trainer.accelerator": "cpu",
        "trainer.num_sanity_val_steps": 0, "record.images": 0, "pictures.enabled": "false",
        "trainer.enable_progress_bar": "false",
    }  # fmt: skip
    yield ["--config", "run.yaml", *(f"--{key}={value}" for key, value in settings.items())]


FILES = {
    "best.ckpt": 4, "last.ckpt": 5, "simpsons-epoch=01-mAP=0.3000.ckpt": 1, "simpsons-epoch=02-mAP=0.2000.ckpt": 2,
    "simpsons-epoch=04-mAP=0.4000.ckpt": 4,
}  # fmt: skip
FOLDER = Path("runs", "simpsons", "version_0", "checkpoints")


def epochs_of(folder: Path) -> dict[str, int]:
    return {path.name: torch.load(path, weights_only=True)["epoch"] for path in sorted(folder.iterdir())}


def test_the_documented_files(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_fit([*options, "--trainer.max_epochs=5"]) == 0
    # The file to go on from knows what every callback has ranked, whatever their order.
    states = torch.load(FOLDER / "last.ckpt", weights_only=True)["callbacks"]
    scores = {key: state["best_model_score"] for key, state in states.items() if key.startswith("YOLOCheckpoint")}
    assert [float(score) for score in scores.values()] == pytest.approx([0.4, 0.4])
    assert run_fit([*options, f"--ckpt_path={FOLDER / 'last.ckpt'}"]) == 0
    assert epochs_of(FOLDER) == FILES
    said = capsys.readouterr().out
    assert "Epoch 3: val/mAP did not improve. Best: 0.3000 @ epoch 2\n" in said
    assert "Epoch 4: val/mAP did not improve. Best: 0.3000 @ epoch 2\n" in said
    assert "Epoch 6: val/mAP did not improve. Best: 0.4000 @ epoch 5\n" in said
    assert said.count("did not improve") == 3
    assert "EarlyStopping: " not in said


@pytest.mark.parametrize("name", ["last", "best", "simpsons-epoch=01-mAP=0.3000"])
def test_a_run_goes_on_from_any_of_its_files_and_is_made_longer(name: str, options: list[str]) -> None:
    assert run_fit([*options, "--trainer.max_epochs=3"]) == 0
    at = torch.load(FOLDER / f"{name}.ckpt", weights_only=True)["epoch"]
    later = [path for path, epoch in epochs_of(FOLDER).items() if epoch > at]
    assert run_fit([*options, f"--ckpt_path={FOLDER / name}.ckpt"]) == 0
    found = epochs_of(FOLDER)
    assert {path: epoch for path, epoch in found.items() if path not in later or path in FILES} == FILES
    assert not Path("runs", "simpsons", "version_1").exists()


def test_a_moved_run_goes_on_where_it_is(options: list[str]) -> None:
    assert run_fit([*options, "--trainer.max_epochs=4"]) == 0
    shutil.move("runs", "archive")
    moved = Path("archive", *FOLDER.parts[1:])
    assert run_fit([*options, f"--ckpt_path={moved / 'last.ckpt'}"]) == 0
    assert epochs_of(moved) == FILES
    assert not Path("runs").exists()


def test_a_run_that_goes_on_elsewhere_leaves_the_old_files_and_knows_the_best(options: list[str]) -> None:
    assert run_fit([*options, "--trainer.max_epochs=2"]) == 0
    shutil.move("runs/simpsons/version_0", "old")
    before = epochs_of(Path("old", "checkpoints"))
    assert run_fit([*options, "--trainer.max_epochs=4", "--ckpt_path=old/checkpoints/last.ckpt"]) == 0
    assert epochs_of(Path("old", "checkpoints")) == before
    assert set(epochs_of(FOLDER)) == {"last.ckpt", "simpsons-epoch=02-mAP=0.2000.ckpt"}  # no better one was found
    state = torch.load(FOLDER / "last.ckpt", weights_only=True)["callbacks"]
    best = {Path(value["best_model_path"]) for key, value in state.items() if key.startswith("YOLOCheckpoint")}
    assert best == {
        Path("old", "checkpoints", name).absolute() for name in ("best.ckpt", "simpsons-epoch=01-mAP=0.3000.ckpt")
    }


def test_early_stopping_and_what_a_resume_makes_of_it(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_fit([*options, "--early_stopping.patience=2"]) == 0
    said = capsys.readouterr().out
    assert (
        "Epoch 4: val/mAP did not improve. Best: 0.3000 @ epoch 2\nEarlyStopping: Stopping training at epoch 4" in said
    )
    last = FOLDER / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 3
    resume = [*options, f"--ckpt_path={last}"]
    assert run_fit([*resume, "--early_stopping.patience=2", "--trainer.max_epochs=100"]) == 0
    assert "EarlyStopping: this run was stopped in epoch 4, the best is epoch 2; raise " in capsys.readouterr().out
    assert torch.load(last, weights_only=True)["epoch"] == 3
    assert run_fit([*resume, "--early_stopping.patience=3"]) == 0  # what is set now holds
    assert torch.load(last, weights_only=True)["epoch"] == 5


def test_a_switched_off_early_stopping_stays_off(options: list[str]) -> None:
    assert run_fit([*options, "--early_stopping.patience=1", "--early_stopping.enabled=false"]) == 0
    assert torch.load(FOLDER / "last.ckpt", weights_only=True)["epoch"] == 5


def test_periodic_files_as_documented(options: list[str]) -> None:
    Path("periodic.yaml").write_text(
        "trainer:\n  callbacks:\n    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n      init_args:\n"
        "        {every_n_train_steps: 2, save_last: true, save_top_k: 0}\n"
    )
    cli = make_cli([*options, "--config", "periodic.yaml", "--trainer.max_epochs=2", "--data.batch_size=3"])
    written = []
    save = cli.trainer.save_checkpoint
    cli.trainer.save_checkpoint = lambda path, *args, **more: (  # type: ignore[method-assign]
        written.append((Path(path).name, cli.trainer.global_step)),
        save(path, *args, **more),
    )
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    assert written == [("last.ckpt", step) for step in (2, 3, 4, 6, 6)]


def _write_for_ever(path: Path) -> None:
    state = 0
    while True:
        state += 1
        AtomicCheckpointIO().save_checkpoint({"state": state, "values": torch.full((200_000,), float(state))}, path)


@pytest.mark.parametrize("kills", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_a_kill_while_saving_leaves_a_whole_file(kills: int, tmp_path: Path) -> None:
    path, halves, last = tmp_path / "last.ckpt", 0, 0
    context = multiprocessing.get_context("fork")
    for number in range(kills):
        process = context.Process(target=_write_for_ever, args=(path,))
        process.start()
        end = time.monotonic() + 20
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.02 + 0.0037 * number)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(20)
        halves += (tmp_path / ".last.ckpt.part").exists()
        content = torch.load(path, weights_only=True)
        assert content["values"].eq(content["state"]).all()
        last = content["state"]
    assert last > 0
    assert halves > 0, "no kill has hit a file that was being written"


def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state": 1}, path)
    opened = Path.open

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, *args: Full() if self.suffix == ".part" else opened(self, *args))
    with pytest.raises(YoloError) as caught:
        AtomicCheckpointIO().save_checkpoint({"state": 2, "values": torch.zeros(100)}, path)
    assert str(caught.value) == f"{path} could not be written (No space left on device)"
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"state": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    with pytest.raises(YoloError, match="could not be written"):
        AtomicCheckpointIO().save_checkpoint({}, path / "below.ckpt")
