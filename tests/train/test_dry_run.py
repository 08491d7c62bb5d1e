"""``yolo fit --dry-run`` finds what a training would fail of, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from lightning.pytorch import Callback

from yolo.cli.main import main
from yolo.core.errors import UsageError, YoloError
from yolo.core.models import build_model
from yolo.training import dry_run
from yolo.training.commands.fit import fit
from yolo.training.dry_run import run_dry
from yolo.training.trainer_cli import run_fit


def options(data: Path, **more: object) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "model.model_config": "v9-t", "trainer.max_epochs": 20, "trainer.accelerator": "cpu",
    }  # fmt: skip
    return ["--dry-run", *(f"--{key}={value}" for key, value in {**settings, **more}.items())]


def files(*folders: Path) -> dict[Path, str]:
    """Every file and folder below, with a hash of what is in it."""
    found = [path for folder in folders for path in sorted(folder.rglob("*"))]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in found}


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of its own, beside an empty working folder; temporary files go to a third one."""
    shutil.copytree(tiny_data, tmp_path / "data", ignore=shutil.ignore_patterns(".yolo*"))
    for name in ("here", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "data"


class Watch(Callback):
    """Counts what a rehearsal does; made from a configuration, as somebody's own callback is."""

    seen: ClassVar[dict[str, int]] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen["train"] = self.seen.get("train", 0) + 1
        self.seen["steps"] = trainer.global_step

    def on_validation_batch_end(self, *_: object) -> None:
        self.seen["val"] = self.seen.get("val", 0) + 1

    def on_save_checkpoint(self, *_: object) -> None:
        self.seen["saved"] = self.seen.get("saved", 0) + 1


def test_it_takes_one_step_says_what_would_be_used_and_writes_nothing(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "trainer:\n  callbacks:\n"
        "    - class_path: lightning.pytorch.callbacks.LearningRateMonitor\n"
        "    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n"
        f"      init_args: {{dirpath: {tmp_path / 'elsewhere'}, monitor: val/mAP, save_last: true}}\n"
    )
    monkeypatch.setattr(Watch, "seen", {})
    original = dry_run.RehearsalCLI._instantiate_trainer

    def watched(self, *args):
        trainer = original(self, *args)
        trainer.callbacks.append(Watch())
        return trainer

    monkeypatch.setattr(dry_run.RehearsalCLI, "_instantiate_trainer", watched)
    torch.save(build_model("v9-t", 80).state_dict(), tmp_path / "w.pt")
    monkeypatch.setattr(torch, "save", lambda *_, **__: pytest.fail("a checkpoint was written"))
    before = files(tmp_path)
    more = {"trainer.accumulate_grad_batches": 2, "data.cache_images": "disk", "ema.enabled": "false", "config": config}
    with caplog.at_level("INFO", "yolo"):
        assert fit(options(data, **more, **{"model.weight_path": tmp_path / "w.pt"})) == 0
    assert files(tmp_path) == before
    assert f"Weights of {tmp_path / 'w.pt'} for v9-t with 4 classes" in caplog.text
    assert Watch.seen == {"train": 1, "steps": 1, "val": 1, "saved": Watch.seen["saved"]}
    printed = capsys.readouterr().out
    text = " ".join(printed.split())
    for part in (
        "v9-t", "8 training images with 14 boxes", "4 validation images", "20 epochs of 2 steps, each of 2 batches",
        "40 in all", "cosine", "Memory", ".yolo_cache_64x64_f1.0 would be built", "LearningRateMonitor",
        "early_stopping", "TensorBoardLogger", "runs/yolo/version_0", "loss ",
        "Nothing was trained, and nothing was written",
    ):  # fmt: skip
        assert part in text, part
    assert "ema" not in printed.split("Callbacks")[1].split("Loggers")[0]


@pytest.fixture
def checkpoint(data: Path, tmp_path: Path) -> Path:
    """The last checkpoint of a run of one epoch, of two steps."""
    more = {"trainer.limit_val_batches": 0, "trainer.limit_train_batches": 2, "trainer.max_epochs": 1}
    assert run_fit([*options(data, **more)[1:], f"--trainer.logger.init_args.save_dir={tmp_path / 'runs'}"]) == 0
    return tmp_path / "runs" / "yolo" / "version_0" / "checkpoints" / "last.ckpt"


def test_a_checkpoint_to_resume(
    data: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(tmp_path)
    more = {"trainer.limit_train_batches": 2, "trainer.max_epochs": 2, "ckpt_path": checkpoint}
    capsys.readouterr()
    assert run_dry(options(data, **more)) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{checkpoint.parents[1]}, goes on from last.ckpt" in text
    assert "4 in all, 2 of them done" in text
    assert run_dry(options(data, **{**more, "trainer.max_epochs": 1})) == 0
    assert "none: this run is complete" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"is a run of v9-t, but model\.model_config is v9-s"):
        run_dry(options(data, **{**more, "model.model_config": "v9-s"}))
    with pytest.raises(YoloError, match="optimi"):
        run_dry(options(data, **{**more, "model.optimizer": "adamw"}))
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"data.root": "nowhere"}, 1, "nowhere"),
        ({"model.freeze_layers": "stem"}, 2, "stem"),
        ({"model.weight_path": "nowhere.pt"}, 1, "nowhere.pt"),
        ({"ckpt_path": "nowhere.ckpt"}, 2, "nowhere.ckpt"),
        ({"trainer.logger": "lightning.pytorch.loggers.CometLogger"}, 2, "comet"),
        ({"trainer.logger.init_args.save_dir": "{file}/runs"}, 1, "cannot be written"),
        ({"model.metrics_plots_dir": "{file}/plots"}, 1, "choose another place with model.metrics_plots_dir"),
        ({"find-lr-min": 1}, 2, "--find-lr"),
        ({"model.lerning_rate": 1}, 2, "lerning_rate"),
        ({"data.cache_images": "ram", "data.cache_max_memory_gb": 1e-6}, 2, "cache_max_memory_gb"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code(
    more: dict[str, object], code: int, said: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    before = files(tmp_path)
    given = {key: str(value).replace("{file}", str(tmp_path / "file")) for key, value in more.items()}
    try:
        found = main(["fit", *options(data, **given)])
    except SystemExit as stop:
        found = stop.code
    captured = capsys.readouterr()
    assert found == code, captured.err
    assert said in captured.err
    assert "Traceback" not in captured.err and "All is well" not in captured.out
    assert files(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_found_for_a_checkpoint_elsewhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "run.yaml"
    locked = tmp_path / "locked"
    locked.mkdir()
    config.write_text(
        "trainer:\n  callbacks:\n    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n"
        f"      init_args: {{dirpath: {locked / 'checkpoints'}, monitor: val/mAP}}\n"
    )
    real = dry_run.tempfile.TemporaryFile

    def refused(dir: Path, **kwargs):
        if Path(dir) == locked:
            raise PermissionError(13, "Permission denied")
        return real(dir=dir, **kwargs)

    monkeypatch.setattr(dry_run.tempfile, "TemporaryFile", refused)  # for tests often run as a user who may everything
    with pytest.raises(YoloError, match=r"locked cannot be written \(Permission denied\)"):
        run_dry(options(data, config=config))
