"""A resumed run is the run it resumes, weight for weight, wherever it was stopped."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from lightning.pytorch import Callback

from yolo.core.errors import UsageError, YoloError
from yolo.training.atomic_io import AtomicCheckpointIO
from yolo.training.callbacks import YOLOCheckpoint
from yolo.training.trainer_cli import make_cli, run_fit


def options(data: Path, root: Path, **more: object) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "data.close_mosaic_epochs": 1, "model.model_config": "v9-t", "model.warmup_epochs": 1, "ema.tau": 3,
        "trainer.max_epochs": 3, "trainer.accelerator": "cpu", "trainer.num_sanity_val_steps": 0,
        "record.images": 0, "trainer.logger.init_args.save_dir": root,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in {**settings, **more}.items()]


@pytest.fixture(scope="module")
def whole(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A run of three epochs that kept a checkpoint of every step."""
    root = tmp_path_factory.mktemp("whole")
    config = root / "steps.yaml"
    config.write_text(
        "trainer:\n  callbacks:\n    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n      init_args:\n"
        "        {dirpath: checkpoints, filename: 'at-{step}', monitor: null, every_n_train_steps: 1, save_top_k: -1, "
        "save_last: true}\n"
        "    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n      init_args:\n"
        "        {dirpath: checkpoints, filename: 'val-{step}', monitor: val/mAP, save_top_k: -1}\n"
    )
    cli = make_cli(["--config", str(config), *options(tiny_data, root)])
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    run = root / "yolo" / "version_0"
    return run, state(cli)


def state(cli) -> dict:
    ema = cli.model.averaged_state()
    return {"raw": {k: v.clone() for k, v in cli.model.model.state_dict().items()},
            "ema": {k: v.clone() for k, v in ema.items()}, "step": cli.trainer.global_step}  # fmt: skip


@pytest.mark.parametrize("name", ["at-step=2", "at-step=4", "at-step=6", "val-step=4", "val-step=8"])
def test_resumed_anywhere_ends_with_the_same_weights(
    name: str, whole: tuple[Path, dict], tiny_data: Path, tmp_path: Path
) -> None:
    run, wanted = whole
    cli = make_cli(options(tiny_data, tmp_path))
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=str(run / "checkpoints" / f"{name}.ckpt"))
    got = state(cli)
    assert got["step"] == wanted["step"]
    for key in ("raw", "ema"):
        far = {n: float((got[key][n] - v).abs().max()) for n, v in wanted[key].items() if v.is_floating_point()}
        assert max(far.values()) < 1e-6, (key, max(far.values()))


@pytest.mark.parametrize("name", ["last", "val-step=4"])
def test_the_table_of_a_resumed_run_has_every_epoch_once_and_whole(
    name: str, whole: tuple[Path, dict], tiny_data: Path, tmp_path: Path
) -> None:
    run, _ = whole
    cli = make_cli(options(tiny_data, tmp_path, **{"trainer.max_epochs": 4}))
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=str(run / "checkpoints" / f"{name}.ckpt"))
    with (tmp_path / "yolo" / "version_0" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(row["loss"] and row["mAP"] for row in rows)


def test_a_run_that_began_from_weights_of_another_class_count_resumes(tiny_data: Path, tmp_path: Path) -> None:
    from yolo.core.models import build_model

    torch.save(build_model("v9-t", 80).state_dict(), tmp_path / "w80.pt")
    more = {"model.weight_path": tmp_path / "w80.pt", "trainer.limit_train_batches": 1}
    assert run_fit(options(tiny_data, tmp_path, **more, **{"trainer.max_epochs": 1})) == 0
    last = tmp_path / "yolo" / "version_0" / "checkpoints" / "last.ckpt"
    (tmp_path / "w80.pt").unlink()  # not needed any more: the checkpoint knows the width of the class branches
    assert run_fit([*options(tiny_data, tmp_path, **more, **{"trainer.max_epochs": 2}), f"--ckpt_path={last}"]) == 0


def test_what_is_recorded_names_no_folder_of_the_run(whole: tuple[Path, dict], tiny_data: Path, tmp_path: Path) -> None:
    last = whole[0] / "checkpoints" / "last.ckpt"
    cli = make_cli([*options(tiny_data, tmp_path, **{"trainer.max_epochs": 4}), f"--ckpt_path={last}"])
    assert cli.recorded.ckpt_path is None
    assert cli.recorded.trainer.logger.init_args.get("version") is None
    assert cli.recorded.trainer.logger.init_args.save_dir == str(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(whole: tuple[Path, dict], tiny_data: Path, tmp_path: Path) -> None:
    last = whole[0] / "checkpoints" / "last.ckpt"
    with pytest.raises(UsageError, match=r"is a run of v9-t, but model\.model_config is v9-s"):
        run_fit([*options(tiny_data, tmp_path, **{"model.model_config": "v9-s"}), f"--ckpt_path={last}"])


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.ckpt").write_bytes(b"<html>not found</html>")
    with pytest.raises(YoloError, match=r"page\.ckpt"):
        make_cli([f"--ckpt_path={tmp_path / 'page.ckpt'}", "--trainer.logger=false"])


def test_a_moved_run_keeps_its_best_score(tmp_path: Path) -> None:
    old, new = YOLOCheckpoint(), YOLOCheckpoint()
    old.dirpath, new.dirpath = "/a/run/checkpoints", str(tmp_path / "checkpoints")
    old.best_model_path, old.best_model_score = "/a/run/checkpoints/best.ckpt", torch.tensor(0.5)
    old.best_k_models = {old.best_model_path: old.best_model_score}
    new.load_state_dict(old.state_dict())
    assert new.best_model_score == 0.5
    assert new.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")
    assert list(new.best_k_models) == [new.best_model_path]


def test_a_kill_while_saving_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def stop(_: object, file: BinaryIO) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_resumed_run_keeps_its_best_score(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started with a relative save_dir, resumed by path: the same folder, so the same best.ckpt."""
    monkeypatch.chdir(tmp_path)
    more = {"trainer.limit_train_batches": 1}
    assert run_fit(options(tiny_data, Path("runs"), **more, **{"trainer.max_epochs": 1})) == 0
    last = "runs/yolo/version_0/checkpoints/last.ckpt"
    cli = make_cli([*options(tiny_data, Path("runs"), **more, **{"trainer.max_epochs": 2}), f"--ckpt_path={last}"])
    saver = cli.trainer.checkpoint_callback
    seen = {}

    class Start(Callback):
        def on_train_start(self, trainer, pl_module) -> None:
            seen["score"] = saver.best_model_score

    cli.trainer.callbacks.insert(0, Start())
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=last)
    assert seen["score"] is not None
