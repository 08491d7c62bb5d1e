"""A Predictor runs exported files as it runs checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from yolo.cli.main import main
from yolo.core import Predictor
from yolo.core.errors import UsageError, YoloError


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (size[1], size[0], 3), np.uint8) for size in ((120, 80), (50, 90), (96, 64))]


@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"augment": True}, {"class_agnostic": True}])
def test_the_same_detections_as_the_checkpoint(checkpoint, plain, pictures, options) -> None:
    settings = {"confidence": 0.0, "max_detections": 20, **options}
    exported, trained = Predictor(plain.path, **settings), Predictor(checkpoint, device="cpu", **settings)
    assert (exported.class_names, exported.image_size) == (trained.class_names, trained.image_size)
    for one, other in zip(exported(pictures), trained(pictures), strict=True):
        assert one.size == other.size and len(one) == len(other) > 0
        assert np.abs(one.scores - other.scores).max() < 1e-4
        assert np.abs(one.boxes - other.boxes).max() < 0.05


def test_the_size_of_a_file_cannot_be_changed(plain) -> None:
    assert Predictor(plain.path, image_size=(96, 64)).image_size == (96, 64)
    with pytest.raises(UsageError, match="takes pictures of 96x64"):
        Predictor(plain.path, image_size=64)


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(YoloError, match=r"gone\.onnx"):
        Predictor(tmp_path / "gone.onnx")


def test_the_command_takes_exported_files(plain, pictures, tmp_path, capsys, monkeypatch) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.fromarray(pictures[0]).save("a.png")
    assert main(["predict", "-c", str(plain.path), "-s", "a.png", "--conf", "0"]) == 0
    assert "a.png  120x80  " in capsys.readouterr().out
    assert (tmp_path / "runs/predict/1/a.png").is_file()
