"""What loggers are given, and how they are chosen."""

import csv
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from yolo.core.errors import UsageError
from yolo.training.trainer_cli import make_cli, run_fit

TENSORBOARD = "lightning.pytorch.loggers.TensorBoardLogger"
CSV = "lightning.pytorch.loggers.CSVLogger"


def options(network: Path, data: Path, **more) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 4, "data.num_workers": 0, "ema.tau": 5,
        "model.model_config": network, "model.warmup_epochs": 1, "trainer.max_epochs": 2, "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false", "trainer.log_every_n_steps": 1, "trainer.num_sanity_val_steps": 0,
        "pictures.every_n_epochs": 0, "record.images": 0, **more,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items()]


def two_loggers(path: Path, **tensorboard) -> str:
    loggers = [
        {"class_path": TENSORBOARD, "init_args": {"save_dir": str(path / "runs"), "name": "two", **tensorboard}},
        {
            "class_path": CSV,
            "init_args": {"save_dir": str(path / "runs"), "name": "two", "flush_logs_every_n_steps": 1},
        },
    ]
    file = path / "loggers.yaml"
    file.write_text(yaml.safe_dump({"trainer": {"logger": loggers}}))
    return str(file)


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_two_loggers_get_everything_in_one_folder_and_a_resumed_run_goes_on_there(
    small_network: Path, tiny_data: Path, tmp_path: Path
) -> None:
    config = two_loggers(tmp_path)
    assert run_fit(["--config", config, *options(small_network, tiny_data)]) == 0
    run = tmp_path / "runs" / "two" / "version_0"
    last = run / "checkpoints" / "last.ckpt"
    more = options(small_network, tiny_data, **{"trainer.max_epochs": 3, "model.lr_extend": "stretch"})
    assert run_fit(["--config", config, *more, f"--ckpt_path={last}"]) == 0
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]

    found = scalars(run)
    terms = [f"train/{name}_{when}" for name in ("loss", "box", "cls", "dfl") for when in ("step", "epoch")]
    metrics = [f"val/{name}" for name in ("mAP", "mAP50", "mAP75", "AR@100", "precision", "recall", "f1")]
    rates = ["lr/bias", "lr/norm", "lr/weight", "momentum", "ema/factor"]
    assert set(found) == {*terms, *metrics, *rates, "epoch"}
    assert [step for step, _ in found["lr/weight"]] == list(range(6)), "two batches an epoch, each a step"
    assert [step for step, _ in found["train/loss_epoch"]] == [1, 3, 5], "x counts steps, not epochs"
    assert [step for step, _ in found["val/mAP"]] == [1, 3, 5]
    assert [found[f"lr/{name}"][0][1] for name in ("bias", "norm", "weight")] == pytest.approx([0.1, 0, 0])
    assert found["momentum"][0][1] == pytest.approx(0.8)
    assert found["lr/weight"][2][1] == found["lr/bias"][2][1], "after the warm-up"
    factors = [value for _, value in found["ema/factor"]]
    assert factors == sorted(factors) and factors[-1] > 0.5

    rows = list(csv.DictReader((run / "results.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["loss"]) == pytest.approx(found["train/loss_epoch"][-1][1], rel=1e-5)
    logged = list(csv.DictReader((run / "metrics.csv").open()))
    assert {"lr/weight", "momentum", "train/loss_step", "val/mAP"} <= set(logged[0])
    assert [row["step"] for row in logged if row["lr/weight"]] == [str(step) for step in range(6)]


def test_steps_that_are_taken_once_more_are_not_logged_twice(
    small_network: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """As after a kill: the files know more than the checkpoint."""
    config = two_loggers(tmp_path)
    run = tmp_path / "runs" / "two" / "version_0"
    args = ["--config", config, *options(small_network, tiny_data, **{"pictures.every_n_epochs": 1})]
    assert run_fit(args) == 0
    best = run / "checkpoints" / "best.ckpt"
    assert torch.load(best, weights_only=True)["global_step"] == 2, "of the first epoch"
    assert run_fit([*args, f"--ckpt_path={best}"]) == 0
    found = scalars(run)
    assert [step for step, _ in found["lr/weight"]] == [step for step, _ in found["train/loss_step"]] == [0, 1, 2, 3]
    assert [step for step, _ in found["val/mAP"]] == [1, 3]
    logged = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["step"] for row in logged if row["lr/weight"]] == ["0", "1", "2", "3"]
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    assert next(event.step for event in events.Images("pictures/predictions")) == 1, "of the first part"


def test_tensorboard_holds_the_configuration_without_keys(small_network: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = two_loggers(tmp_path)
    key = "ab" * 32
    given = options(small_network, tiny_data, **{"trainer.max_epochs": 1, "data.encryption_key": f"'{key}'"})
    assert run_fit(["--config", config, *given]) == 0
    run = tmp_path / "runs" / "two" / "version_0"
    events = EventAccumulator(str(run))
    events.Reload()
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    model:\n" in text and f"model_config: {small_network}" in text
    table = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"model.learning_rate" in table
    stored = yaml.safe_load((run / "hparams.yaml").read_text())
    assert stored["model"]["learning_rate"] == 0.01
    assert "logger" not in stored["trainer"]
    for file in run.rglob("*"):
        if file.is_file():
            assert key.encode() not in file.read_bytes(), file


def test_rates_are_left_to_a_listed_monitor(small_network: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = tmp_path / "monitor.yaml"
    config.write_text(
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.LearningRateMonitor, "
        "init_args: {logging_interval: step}}]}"
    )
    given = options(
        small_network, tiny_data, **{"trainer.max_epochs": 1, "trainer.logger.init_args.save_dir": tmp_path / "runs"}
    )
    assert run_fit(["--config", str(config), *given]) == 0
    found = scalars(tmp_path / "runs" / "yolo" / "version_0")
    assert not any(tag.startswith("lr/") for tag in found)
    assert {"lr-SGD/weight", "momentum"} <= set(found)


def test_without_a_logger_a_run_has_its_folder_and_goes_on_in_it(
    small_network: Path, tiny_data: Path, tmp_path: Path
) -> None:
    given = options(
        small_network, tiny_data,
        **{"trainer.logger": "false", "trainer.default_root_dir": tmp_path, "pictures.every_n_epochs": 1},
    )  # fmt: skip
    assert run_fit(given) == 0
    run = tmp_path / "runs" / "yolo" / "version_0"
    assert {"config.yaml", "results.csv", "curves.png", "train_batch.jpg", "checkpoints"} <= {
        p.name for p in run.iterdir()
    }
    assert run_fit([*given, "--trainer.max_epochs=3", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"]) == 0
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    assert len((run / "results.csv").read_text().splitlines()) == 4


def test_a_logger_of_ones_own_by_class_path(
    small_network: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_diary.py").write_text(
        "from lightning.pytorch.loggers import Logger\n"
        "class Diary(Logger):\n"
        "    last = None\n"
        "    def __init__(self, title: str = 'x', save_dir: str = 'elsewhere'):\n"
        "        super().__init__()\n"
        "        self.title, self.metrics, self.settings, self.save_to = title, {}, None, save_dir\n"
        "        Diary.last = self\n"
        "    name = property(lambda self: self.title)\n"
        "    version = property(lambda self: None)\n"
        "    save_dir = property(lambda self: self.save_to)\n"
        "    def log_metrics(self, metrics, step=None): self.metrics.update(metrics)\n"
        "    def log_hyperparams(self, params, *args, **kwargs): self.settings = params\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    given = options(
        small_network, tiny_data,
        **{"trainer.logger": "my_diary.Diary", "trainer.logger.title": "cells", "trainer.max_epochs": 1,
           "trainer.default_root_dir": tmp_path},
    )  # fmt: skip
    assert run_fit(given) == 0
    import my_diary

    diary = my_diary.Diary.last
    assert {"train/loss_epoch", "val/mAP", "lr/weight", "momentum"} <= set(diary.metrics)
    assert diary.settings["model"]["model_config"] == str(small_network)
    assert (tmp_path / "runs" / "cells" / "version_0" / "checkpoints" / "last.ckpt").is_file()


def test_a_logger_without_its_package_is_one_line_that_names_it() -> None:
    if find_spec("wandb"):
        pytest.skip("wandb is installed here")
    with pytest.raises(
        UsageError, match=r"WandbLogger needs a package that is not installed: pip install 'wandb"
    ) as error:
        make_cli(["--trainer.logger=WandbLogger", "--trainer.accelerator=cpu"])
    assert "\n" not in str(error.value)


def test_the_package_of_a_logger_that_python_does_not_find_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_logger.py").write_text("import no_such_tracker\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"half_logger\.Half needs a package .* pip install 'no_such_tracker'"):
        make_cli(["--trainer.logger=half_logger.Half", "--trainer.accelerator=cpu"])


def test_the_root_folder_holds_the_runs_of_every_logger(tmp_path: Path) -> None:
    entries = [{"class_path": kind, "init_args": {"save_dir": "runs", "name": "two"}} for kind in (TENSORBOARD, CSV)]
    config = tmp_path / "loggers.yaml"
    config.write_text(yaml.safe_dump({"trainer": {"logger": entries}}))
    cli = make_cli([f"--config={config}", f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu"])
    assert {str(logger.log_dir) for logger in cli.trainer.loggers} == {str(tmp_path / "runs" / "two" / "version_0")}
