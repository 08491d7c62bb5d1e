"""`yolo rain-preview`, the command that yolo-rain adds."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.core.images import ImageError, read_image
from yolo_rain.command import rain_preview


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "street.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 120, (48, 64, 3), np.uint8)).save(path)
    return path


def _preview(*arguments):
    return CliRunner().invoke(rain_preview, list(map(str, arguments)), catch_exceptions=False)


def test_it_shows_the_picture_and_the_showers(picture, tmp_path):
    output = tmp_path / "new" / "rain.png"
    result = _preview("--source", picture, "--output", output, "--count", 2)
    assert result.exit_code == 0
    assert str(output) in result.output
    row, source = read_image(output), read_image(picture)
    assert row.shape == (48, 3 * 64 + 2 * 8, 3)
    assert np.array_equal(row[:, :64], source)
    assert not np.array_equal(row[:, 72:136], source)
    assert not np.array_equal(row[:, 72:136], row[:, 144:])
    assert [path.name for path in output.parent.iterdir()] == ["rain.png"]


def test_the_same_seed_gives_the_same_shower(picture, tmp_path):
    for name, seed in (("a.png", 7), ("b.png", 7), ("c.png", 8)):
        _preview("--source", picture, "--output", tmp_path / name, "--seed", seed)
    a, b, c = (read_image(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_mistakes_are_named(picture, tmp_path):
    with pytest.raises(ImageError, match=r"absent\.jpg"):
        _preview("--source", tmp_path / "absent.jpg", "--output", tmp_path / "rain.jpg")
    with pytest.raises(UsageError, match=r"rain\.txt"):
        _preview("--source", picture, "--output", tmp_path / "rain.txt")
    with pytest.raises(UsageError, match="haze"):
        _preview("--source", picture, "--output", tmp_path / "rain.jpg", "--haze", 3)
    with pytest.raises(YoloError, match=r"rain\.jpg cannot be written"):
        _preview("--source", picture, "--output", picture / "rain.jpg")


def test_through_the_shell_on_a_real_picture(datasets, tmp_path):
    source = sorted((datasets / "bccd/images/train").iterdir())[0]
    command = [sys.executable, "-m", "yolo", "rain-preview", "--source", source, "--output", tmp_path / "rain.jpg"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert read_image(tmp_path / "rain.jpg").shape == (480, 1288, 3)

    finished = subprocess.run([*command[:5], "absent.jpg"], capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 1
    assert "absent.jpg" in finished.stderr
    assert "Traceback" not in finished.stderr
