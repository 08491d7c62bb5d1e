"""Reading the data section outside of ``fit``: the same files, names, options and precedence as there."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo.core.errors import UsageError
from yolo.data.config_files import config_path, data_settings, read_config

FILE = """
seed_everything: 7
model: {image_size: [320, 640], num_classes: 3, learning_rate: 0.1}
data:
  root: cells
  scale: 1e-1
  bbox_mosaic: {prob: 0.6, jitter: 0.1}
  image_loader: {class_path: yolo.data.loaders.FastImageLoader, init_args: {use_mmap: false}}
"""
LATER = "data: {scale: 0.3, bbox_mosaic: {degrees: 5}, augmentations: [{use: rain, p: 0.3}]}\n"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = []
    for name, text in (("run.yaml", FILE), ("later.yaml", LATER)):
        (tmp_path / name).write_text(text)
        paths.append(str(tmp_path / name))
    return paths


@pytest.mark.parametrize(
    ("configs", "options"),
    [
        (["quickstart"], []),
        (["debug"], ["--data.root", "elsewhere"]),
        (["run.yaml"], []),
        (["run.yaml", "later.yaml"], []),
        (["later.yaml", "run.yaml"], ["--data.bbox_mosaic.degrees=30.0", "--data.bbox_mosaic.prob", "1"]),
        (["quickstart", "later.yaml"], ["--data.augmentations=[{use: rain}]", "--data.seed=3"]),
        (["later.yaml"], ["--data.image_loader.class_path=yolo.data.loaders.DefaultImageLoader"]),
    ],
)
def test_the_settings_are_those_of_fit(files: list[str], configs: list[str], options: list[str]) -> None:
    trainer_cli = pytest.importorskip("yolo.training.trainer_cli")
    folder = Path(files[0]).parent
    values = [str(folder / value) if value.endswith(".yaml") else value for value in configs]
    rest = ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.precision=32"]
    args = [part for value in values for part in ("--config", value)]
    wanted = trainer_cli.make_cli([*args, *options, *rest]).datamodule.config
    found = data_settings(values, options)
    assert vars(found) | {"seed": found.seed or 0} == vars(wanted)


def test_options_win_over_files_wherever_they_stand(files: list[str]) -> None:
    settings = data_settings(files, ["--data.scale=0.7", "--data.bbox_mosaic.jitter", "0.9"])
    documents = settings.bbox_mosaic
    assert (settings.scale, documents.prob, documents.degrees, documents.jitter) == (0.7, 0.6, 5, 0.9)
    assert (settings.image_size, settings.num_classes, settings.seed) == ((320, 640), 3, 7)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("data: {scal: 1}", [], r"data\.scal is not a setting of the data\. Did you mean 'scale'"),
        ("data: {scale: wide}", [], r"run\.yaml: .*scale.*wide"),
        ("data: {scale: 3}", [], r"data\.scale is 3\.0"),
        ("data: {bbox_mosaic: {porb: 1}}", [], "porb"),
        ("data: 3", [], "must hold keys and values"),
        ("3", [], "expected sections"),
        ("data: [1", [], r"run\.yaml: not a YAML file"),
        ("", [], "expected sections"),
        ("data:", ["--data.batchsize=2"], "Did you mean '--data.batch_size'|Did you mean 'batch_size'"),
        ("data:", ["--data.scale=wide"], r"scale.*wide"),
        ("data:", ["--gird"], "--gird"),
        ("data:", ["stray"], "stray"),
        ("data: {image_size: 320}\nmodel: {image_size: 640}", [], "give it once"),
        ("data:\nmodel: {image_size: wide}", [], r"data\.image_size.*wide"),
        ("data: {image_size: 320}\nmodel: {image_size: 1.5}", [], "give it once"),
        ("data:\nseed_everything: often", [], r"data\.seed.*often"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, options: list[str], message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        data_settings([str(path)], options)


def test_of_two_image_sizes_the_later_source_wins(tmp_path: Path) -> None:
    """The section that a later file or the command line sets counts, not the other one of an earlier file."""
    for name, text in {"model": "model: {image_size: [320, 640]}", "data": "data: {image_size: 96}"}.items():
        (tmp_path / name).write_text(text)
    model, data = str(tmp_path / "model"), str(tmp_path / "data")
    assert data_settings([model], ["--data.image_size=64"]).size == (64, 64)
    assert data_settings([data, model]).size == (320, 640)
    assert data_settings([model, data]).size == (96, 96)
    assert data_settings([model, data], ["--data.image_size", "[64,96]"]).size == (64, 96)


def test_a_key_is_never_shown(tmp_path: Path) -> None:
    secret = "1234567890" * 6
    for text in (f"data: {{encryption_key: [{secret}]}}", f"data:\n  encryption_key: {secret}\n  root: [\n"):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        with pytest.raises(UsageError) as error:
            data_settings([str(path)])
        assert secret not in str(error.value)


def test_names_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"quikstart: there is no such file, and the packaged ones are .*quickstart"):
        config_path("quikstart")
    (tmp_path / "bad.yaml").write_bytes(b"data: \xff\xfe")
    with pytest.raises(UsageError, match="cannot be read as text"):
        read_config(str(tmp_path / "bad.yaml"))
