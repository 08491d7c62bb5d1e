"""What ``yolo fit`` makes of options and configuration files, short of training."""

from pathlib import Path

import pytest
import yaml
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from yolo.core.errors import UsageError
from yolo.training.callbacks import (
    EMACallback,
    EvalDashboardCallback,
    TrainingSummaryCallback,
    YOLOCheckpoint,
    YOLOEarlyStopping,
    YOLOProgressBar,
)
from yolo.training.configs import NAMES, config_path, expand_config_names
from yolo.training.trainer_cli import make_cli, run_fit

SPECIFICATION = """
trainer:
  max_epochs: 3
  accelerator: cpu
  logger: false
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
      init_args: {dirpath: checkpoints/, monitor: val/mAP, mode: max, save_top_k: 1, filename: best}
    - class_path: lightning.pytorch.callbacks.EarlyStopping
      init_args: {monitor: val/mAP, mode: max, patience: 50, verbose: true, check_on_train_epoch_end: false}
    - class_path: lightning.pytorch.callbacks.LearningRateMonitor
      init_args: {logging_interval: step}
    - class_path: yolo.training.callbacks.YOLOProgressBar
    - class_path: yolo.training.callbacks.TrainingSummaryCallback
    - class_path: yolo.training.callbacks.EMACallback
      init_args: {decay: 0.999, tau: 500, enabled: true}
    - class_path: yolo.training.callbacks.EvalDashboardCallback
      init_args: {conf_prod: 0.25, show_trends: true, top_n_classes: 5}
"""


def count(callbacks: list, kind: type) -> int:
    return sum(isinstance(callback, kind) for callback in callbacks)


def test_every_run_has_the_callbacks_and_they_are_set_by_name() -> None:
    cli = make_cli(
        ["--ema.decay", "0.99", "--early_stopping.patience=7", "--early_stopping.enabled", "false",
         "--dashboard.top_n_classes", "5", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    )  # fmt: skip
    callbacks = cli.trainer.callbacks
    for kind in (EMACallback, YOLOEarlyStopping, YOLOProgressBar, TrainingSummaryCallback, EvalDashboardCallback):
        assert count(callbacks, kind) == 1
    ema = next(c for c in callbacks if isinstance(c, EMACallback))
    stopping = next(c for c in callbacks if isinstance(c, YOLOEarlyStopping))
    assert ema.decay == 0.99
    assert (stopping.patience, stopping.enabled) == (7, False)
    saved = next(c for c in callbacks if isinstance(c, YOLOCheckpoint))
    assert (saved.filename, saved.save_last, saved.monitor) == ("best", True, "val/mAP")


def test_the_specifications_callback_list_starts_and_doubles_nothing(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(SPECIFICATION)
    callbacks = make_cli(["--config", str(config)]).trainer.callbacks
    for kind, times in {
        ModelCheckpoint: 2, EarlyStopping: 1, EMACallback: 1, YOLOProgressBar: 1, TrainingSummaryCallback: 1,
        EvalDashboardCallback: 1, LearningRateMonitor: 1,
    }.items():  # fmt: skip
        assert count(callbacks, kind) == times, kind
    assert all(isinstance(c, YOLOCheckpoint) for c in callbacks if isinstance(c, ModelCheckpoint))
    assert next(c for c in callbacks if isinstance(c, EMACallback)).decay == 0.999


def test_options_by_name_win_over_the_list(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(SPECIFICATION)
    options = ["--ema.decay=0.5", "--early_stopping.patience", "3", "--early_stopping.enabled=false"]
    cli = make_cli(["--config", str(config), *options])
    ema = next(c for c in cli.trainer.callbacks if isinstance(c, EMACallback))
    stopping = next(c for c in cli.trainer.callbacks if isinstance(c, EarlyStopping))
    assert (ema.decay, ema.tau) == (0.5, 500)
    assert (stopping.patience, stopping.enabled) == (3, False)
    assert (cli.config.ema.decay, cli.config.ema.tau) == (0.5, 500), "what is recorded is what runs"


def test_checkpoints_and_bars_can_be_switched_off_with_the_list(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(SPECIFICATION)
    off = ["--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"]
    callbacks = make_cli(["--config", str(config), *off]).trainer.callbacks
    assert count(callbacks, ModelCheckpoint) == count(callbacks, YOLOProgressBar) == 0


def test_a_callback_by_its_place_in_the_list_is_answered_with_its_name() -> None:
    with pytest.raises(UsageError, match=r"--trainer\.callbacks\.6\.init_args\.decay.*--ema\."):
        run_fit(["--trainer.callbacks.6.init_args.decay=0.999"])


@pytest.mark.parametrize("name", NAMES)
def test_packaged_configurations_are_found_by_name_and_parse(name: str) -> None:
    cli = make_cli(["--config", name, "--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.precision=32"])
    wanted = yaml.safe_load(Path(config_path(name)).read_text())
    assert cli.model.config.model_config == wanted["model"]["model_config"]
    assert cli.trainer.max_epochs == wanted["trainer"]["max_epochs"]


def test_later_configurations_win(tmp_path: Path) -> None:
    later = tmp_path / "later.yaml"
    later.write_text("model: {learning_rate: 0.5}\n")
    cli = make_cli(["--config", "debug", f"--config={later}", "--trainer.logger=false", "--trainer.accelerator=cpu"])
    assert cli.model.config.learning_rate == 0.5
    assert cli.model.config.model_config == "v9-t"


def test_an_unknown_configuration_names_the_packaged_ones() -> None:
    with pytest.raises(UsageError, match="quickstart"):
        expand_config_names(["--config", "quikstart"])


def test_a_checkpoint_that_is_not_there_is_refused_before_work_starts() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.ckpt"):
        make_cli(["--ckpt_path", "nowhere.ckpt", "--trainer.logger=false"])


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--model.lerning_rate=1"], "--model.lerning_rate is no option. Did you mean '--model.learning_rate'"),
        (["--data.batchsize", "2"], "--data.batchsize is no option. Did you mean '--data.batch_size'"),
        (["--model.learning_rate=fast"], "--model.learning_rate is fast: it has to be a number"),
        (["--data.cache_images", "yes"], "--data.cache_images is yes: it has to be one of 'none', 'ram', 'disk'"),
        (["--trainer.max_epochs=x"], "--trainer.max_epochs is x: it has to be a whole number or null"),
        (["--ema.enabled", "maybe"], "--ema.enabled is maybe: it has to be true or false"),
        (
            ["--trainer.logger=NoSuchLogger"],
            "--trainer.logger is NoSuchLogger: it has to be the path of a Logger class",
        ),
        (["--trainer.logger.init_args.foo=3"], "TensorBoardLogger: Option 'foo' is not accepted"),
        (["--model", "nowhere.yaml"], "--model: nowhere.yaml cannot be read"),
        (["stray"], "stray is no option"),
    ],
)
def test_a_mistake_in_an_option_is_one_line(args: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError) as error:
        run_fit(args)
    assert text in str(error.value)
    assert "\n" not in str(error.value)
    assert "usage:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("data: {cache_images: yes}", "data.cache_images is True: it has to be one of"),
        ("data: {cache_imges: ram}", "data.cache_imges is no setting. Did you mean 'data.cache_images'"),
        ("modell: {learning_rate: 1}", "modell.learning_rate is no setting. Did you mean 'model.learning_rate'"),
        (
            "trainer: {logger: [{class_path: CSVLogger, init_args: {dir: x}}]}",
            "CSVLogger: Option 'dir' is not accepted",
        ),
    ],
)
def test_a_mistake_in_a_file_names_the_file(content: str, text: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(content)
    with pytest.raises(UsageError) as error:
        run_fit(["--config", str(config)])
    assert text in str(error.value)
    assert str(error.value).startswith(f"{config}: ")
    assert "\n" not in str(error.value)


def test_the_image_size_may_stand_under_model(tmp_path: Path) -> None:
    cli = make_cli(["--model.image_size=[320,256]", "--trainer.logger=false", "--trainer.accelerator=cpu"])
    assert cli.datamodule.image_size == (320, 256)


def test_two_different_image_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.image_size.*data\.image_size"):
        make_cli(["--model.image_size=320", "--data.image_size=640", "--trainer.logger=false"])


@pytest.mark.parametrize(
    ("files", "options", "size"),
    [
        (["data: {image_size: 640}"], ["--model.image_size=320"], (320, 320)),
        (["model: {image_size: [320, 256]}"], ["--data.image_size", "640"], (640, 640)),
        (["{model: {image_size: 96}, data: {image_size: 64}}"], ["--data.image_size=[64,32]"], (64, 32)),
        (["data: {image_size: 640}", "model: {image_size: 320}"], [], (320, 320)),
        (["model: {image_size: 320}", "data: {image_size: [640, 320]}"], [], (640, 320)),
        (["{model: {image_size: 96}, data: {image_size: [96, 96]}}"], [], (96, 96)),
        (["{model: {image_size: 96}, data: {image_size: 64}}"], [], None),
        (["data: {image_size: 640}"], ["--model.image_size=320", "--data.image_size=64"], None),
    ],
)
def test_of_two_image_sizes_the_later_source_wins(
    tmp_path: Path, files: list[str], options: list[str], size: tuple[int, int] | None
) -> None:
    args = [*options, "--trainer.logger=false", "--trainer.accelerator=cpu"]
    for number, text in enumerate(files):
        (tmp_path / f"{number}.yaml").write_text(text)
        args += ["--config", str(tmp_path / f"{number}.yaml")]
    if size is None:
        with pytest.raises(UsageError, match=r"model\.image_size is .*, but data\.image_size is .*: give it once"):
            make_cli(args)
        return
    cli = make_cli(args)
    assert cli.datamodule.image_size == size
    recorded = cli.recorded  # starts a new run with the same size
    assert recorded.data.image_size in (size, size[0])
    assert recorded.model.image_size in (None, list(size), size[0])


def test_options_win_over_files_wherever_they_stand(tmp_path):
    (tmp_path / "one.yaml").write_text("data: {scale: 0.1, degrees: 5}")
    (tmp_path / "two.yaml").write_text("data: {degrees: 7}")
    files = [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]
    for args in (
        ["--data.scale=0.7", "--config", files[0], "-c", files[1]],
        ["-c", files[0], "--data.scale=0.7", f"-c={files[1]}"],
    ):
        config = make_cli([*args, "--data.root=nowhere"]).datamodule.config
        assert (config.scale, config.degrees) == (0.7, 7)


def test_a_printed_configuration_shows_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, key = tmp_path / "run.yaml", "0123456789abcdef" * 4
    loader = f"{{class_path: encrypted, init_args: {{key: {key[:-1]}y}}}}"
    config.write_text(f"data: {{encryption_key: {key[:-1]}x, image_loader: {loader}}}")
    with pytest.raises(SystemExit):
        make_cli(["--config", str(config), "--print_config"])
    printed = capsys.readouterr().out
    data = yaml.safe_load(printed)["data"]
    assert key[:-1] not in printed
    assert data["encryption_key"] is None
    assert data["image_loader"] == {"class_path": "encrypted", "init_args": {"key": None}}
