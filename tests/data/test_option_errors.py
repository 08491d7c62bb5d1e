"""Mistakes in options and configuration files: one line that names the key, the value and what is possible."""

from pathlib import Path

import pytest

from yolo.core.errors import UsageError
from yolo.data.config_files import data_settings


def said(*args: str, files: tuple[str, ...] = ()) -> str:
    with pytest.raises(UsageError) as error:
        data_settings(files, args)
    text = str(error.value)
    assert "\n" not in text and "Parser key" not in text and "usage:" not in text
    return text


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--data.cache_images", "yes"], "data.cache_images is yes: it has to be one of 'none', 'ram', 'disk'"),
        (["--data.scale=big"], "data.scale is big: it has to be a number"),
        (["--data.batch_size=2.5"], "data.batch_size is 2.5: it has to be a whole number"),
        (["--data.num_classes=x"], "data.num_classes is x: it has to be a whole number or null"),
        (["--data.pin_memory=maybe"], "data.pin_memory is maybe: it has to be true or false"),
        (["--data.bbox_mosaic.prob=x"], "data.bbox_mosaic.prob is x: it has to be a number"),
        (["--data.batch_size"], "--data.batch_size needs a value"),
    ],
)
def test_options(args: list[str], text: str) -> None:
    assert said(*args) == text


def test_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: {cache_images: yes}")
    assert said(files=(str(file),)) == f"{file}: data.cache_images is True: it has to be one of 'none', 'ram', 'disk'"


def test_a_long_value_is_cut_and_a_key_is_not_shown() -> None:
    assert len(said(f"--data.scale={'9x' * 500}")) < 200
    text = said("--data.num_classes", "ab" * 32)
    assert "abab" not in text


def test_options_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    from yolo.cli.main import main

    assert main(["validate", "--conf", "0.1"]) == 2
    assert capsys.readouterr().err == "Error: --checkpoint is needed. See yolo validate --help.\n"
    assert main(["validate", "-c", "x.ckpt", "--conf", "much"]) == 2
    assert capsys.readouterr().err == "Error: --conf is much: it has to be a number or null\n"
    assert main(["fit", "--data.cache_images", "yes"]) == 2
    assert capsys.readouterr().err == "Error: --data.cache_images is yes: it has to be one of 'none', 'ram', 'disk'\n"
