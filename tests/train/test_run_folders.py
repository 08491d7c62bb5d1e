"""Where a run writes, and where it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo.core.errors import YoloError
from yolo.training.trainer_cli import make_cli, run_fit


@pytest.fixture
def options(tiny_data: Path, small_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    settings = {
        "data.root": tiny_data, "data.image_size": 64, "data.batch_size": 4, "data.num_workers": 0,
        "model.model_config": small_network, "trainer.max_epochs": 1, "trainer.accelerator": "cpu", "record.images": 0,
        "trainer.num_sanity_val_steps": 0,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items()]


def test_a_fast_dev_run_writes_nothing(options: list[str], tmp_path: Path) -> None:
    assert run_fit([*options, "--trainer.fast_dev_run=true"]) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "--data.root=nowhere",
        "--model.num_classes=7",
        "--model.freeze_layers=stem",
        "--trainer.val_check_interval=500",  # found by Lightning, after the sanity check
    ],
)
def test_a_start_that_fails_leaves_nothing(wrong: str, options: list[str], tmp_path: Path) -> None:
    with pytest.raises((YoloError, ValueError)):
        run_fit([*options, "--trainer.num_sanity_val_steps=1", wrong])
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_leaves_what_was_there(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs" / "yolo" / "version_0").mkdir(parents=True)
    (tmp_path / "runs" / "yolo" / "version_0" / "config.yaml").write_text("mine")
    with pytest.raises(YoloError):
        run_fit([*options, "--model.num_classes=7"])
    assert [path.name for path in (tmp_path / "runs").rglob("*")] == ["yolo", "version_0", "config.yaml"]


def test_a_resumed_run_that_fails_keeps_its_files(options: list[str], tmp_path: Path) -> None:
    assert run_fit(options) == 0
    run = tmp_path / "runs" / "yolo" / "version_0"
    before = {path.name for path in run.iterdir()}
    with pytest.raises(YoloError):
        run_fit([*options, "--model.freeze_layers=stem", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"])
    assert {path.name for path in run.iterdir()} >= before


def test_the_root_holds_the_runs(options: list[str], tmp_path: Path) -> None:
    root = ["--trainer.default_root_dir=elsewhere"]
    assert run_fit([*options, *root]) == 0
    last = tmp_path / "elsewhere" / "runs" / "yolo" / "version_0" / "checkpoints" / "last.ckpt"
    assert last.is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    recorded = ["--config", str(last.parents[1] / "config.yaml")]
    cli = make_cli(recorded)  # a new run from what is recorded goes where it went
    assert Path(cli.trainer.logger.log_dir) == Path("elsewhere/runs/yolo/version_1")
    assert run_fit([*recorded, "--trainer.max_epochs=2", f"--ckpt_path={last}"]) == 0
    assert [path.name for path in last.parents[2].iterdir()] == ["version_0"]


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [
        (["--trainer.logger.init_args.name=cells"], "root/runs/cells/version_0"),
        (["--trainer.logger.init_args.save_dir=mine"], "mine/yolo/version_0"),
        (["--config=quickstart"], "root/runs/quickstart/version_0"),
    ],
)
def test_a_folder_that_was_named_stays(extra: list[str], wanted: str) -> None:
    cli = make_cli(["--trainer.accelerator=cpu", "--trainer.default_root_dir=root", *extra])
    assert Path(cli.trainer.logger.log_dir) == Path(wanted)
