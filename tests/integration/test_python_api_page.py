"""The page about prediction from Python: all of its examples run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from yolo.export import export_model
from yolo.export.testing import write_random_checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "python-api.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the page names."""
    monkeypatch.chdir(tmp_path)
    write_random_checkpoint(tmp_path / "best.ckpt", class_names=("car", "bus"), image_size=(96, 96))
    export_model("best.ckpt", output="best.onnx")
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    Path("photos").mkdir()
    for name in ("street.jpg", "photos/one.jpg"):
        Image.fromarray(picture).save(name)
    Path("broken.jpg").write_bytes(b"no picture")
    video = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 48))
    for _ in range(3):
        video.write(picture[:48, :64])
    video.release()
    return tmp_path


def test_every_example_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(examples) == PAGE.read_text(encoding="utf-8").count("```") // 2 > 8
    names: dict[str, Any] = {}
    for number, example in enumerate(examples):
        exec(compile(example, f"{PAGE.name}, example {number + 1}", "exec"), names)
    said = capsys.readouterr().out
    assert "broken.jpg" in said and "missing.ckpt" in said
    assert Image.open("boxes.png").size == (640, 480)
