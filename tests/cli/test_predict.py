"""``yolo predict``: what it writes, what it prints, what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from yolo.core.images import read_image
from yolo.core.models.build import build_model
from yolo.core.models.spec import parse_spec
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle

Run = Callable[..., Any]
NAMES = ("RBC", "WBC", "Platelets")
POCKET = {
    "name": "pocket",
    "backbone": [
        {"Conv": {"args": {"out_channels": 8, "kernel_size": 3, "stride": 2}, "source": 0}},
        {"AConv": {"args": {"out_channels": 8}}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P3"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P4"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P5"}},
    ],
    "detection": [{"MultiheadDetection": {"source": ["P3", "P4", "P5"]}}],
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights that finds something everywhere (scores around 0.5)."""
    torch.manual_seed(0)
    network = build_model(parse_spec(POCKET), 3)
    state = {k: v * 0 if k.endswith("class_conv.2.bias") else v for k, v in network.state_dict().items()}
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    torch.save({BUNDLE_KEY: ModelBundle(network.spec.to_dict(), state, NAMES, (96, 64)).to_dict()}, path)
    return path


@pytest.fixture
def images(datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two real pictures in a folder with a sub-folder, seen from its parent, which is the working folder."""
    folder = tmp_path / "work/images"
    (folder / "more").mkdir(parents=True)
    first, second = sorted((datasets / "bccd/images/val").iterdir())[:2]
    shutil.copy(first, folder / "first.JPG")
    shutil.copy(second, folder / "more/second.jpg")
    monkeypatch.chdir(folder.parent)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_gives_pictures_and_json_in_original_pixels(yolo: Run, checkpoint: Path, images: Path):
    result = yolo("predict", "-c", str(checkpoint), "-s", "images", "--save-json", "--max-det", "5")
    assert result.code == 0, result.err
    out = images.parent / "runs/predict/1"
    assert files(out) == ["first.JPG", "more/second.jpg", "predictions.json"]
    records = json.loads((out / "predictions.json").read_text())
    assert [record["image"] for record in records] == ["first.JPG", "more/second.jpg"]
    for record in records:
        assert set(record) == {"image", "frame", "width", "height", "detections"}
        original = read_image(images / record["image"])
        assert (record["height"], record["width"]) == original.shape[:2]
        assert len(record["detections"]) == 5
        for entry in record["detections"]:
            assert set(entry) == {"label", "name", "score", "box"}
            assert entry["name"] == NAMES[entry["label"]] and 0.25 < entry["score"] <= 1
            x1, y1, x2, y2 = entry["box"]
            assert 0 <= x1 < x2 <= record["width"] and 0 <= y1 < y2 <= record["height"]
        drawn = read_image(out / record["image"])
        assert drawn.shape == original.shape
        assert (np.abs(drawn.astype(int) - original).max(2) > 60).any(), "something was drawn"
    lines = result.out.splitlines()
    assert lines[0].startswith("first.JPG  640x480  ") and lines[1].startswith("more/second.jpg  640x480  ")
    assert lines[2].startswith("2 images, 10 objects") and lines[3] == "Pictures: runs/predict/1/"
    assert lines[4] == "JSON: runs/predict/1/predictions.json" and len(lines) == 5


def test_an_earlier_run_is_never_overwritten(yolo: Run, checkpoint: Path, images: Path):
    for _ in range(2):
        assert yolo("predict", "-c", str(checkpoint), "-s", "images/first.JPG").code == 0
    shutil.rmtree("runs/predict/1")
    assert yolo("predict", "-c", str(checkpoint), "-s", "images/first.JPG").code == 0
    assert files(Path("runs/predict")) == [f"{n}/{name}" for n in (2, 3) for name in ("first.JPG",)]


def test_a_picture_is_written_also_when_nothing_is_found(yolo: Run, checkpoint: Path, images: Path):
    result = yolo("predict", "-c", str(checkpoint), "-s", "images", "--conf", "0.999", "-o", "out", "--save-json")
    assert result.code == 0 and "nothing found" in result.out and "2 images, 0 objects" in result.out
    assert files(Path("out")) == ["first.JPG", "more/second.jpg", "predictions.json"]
    assert [record["detections"] for record in json.loads(Path("out/predictions.json").read_text())] == [[], []]


def test_json_alone_and_nothing_at_all(yolo: Run, checkpoint: Path, images: Path):
    assert yolo("predict", "-c", str(checkpoint), "-s", "images", "--no-draw", "--save-json", "-o", "j").code == 0
    assert files(Path("j")) == ["predictions.json"]
    assert yolo("predict", "-c", str(checkpoint), "-s", "images", "--no-draw", "--no-save-json").code == 0
    assert not Path("runs").exists()


def test_one_picture_may_be_named(yolo: Run, checkpoint: Path, images: Path):
    result = yolo("predict", "-c", str(checkpoint), "-s", "images/first.JPG", "--output=new/boxes.png", "--save-json")
    assert result.code == 0 and "Pictures: new/boxes.png" in result.out
    assert files(Path("new")) == ["boxes.png", "predictions.json"]
    assert Image.open("new/boxes.png").size == (640, 480)


def test_a_bad_file_among_good_ones_is_reported_and_skipped(yolo: Run, checkpoint: Path, images: Path):
    (images / "broken.jpg").write_bytes(b"<html>")
    result = yolo("predict", "-c", str(checkpoint), "-s", "images", "-o", "out", "--save-json")
    assert result.code == 1
    assert "broken.jpg" in result.err and "1 of 3 images could not be read" in result.err
    assert files(Path("out")) == ["first.JPG", "more/second.jpg", "predictions.json"]
    assert len(json.loads(Path("out/predictions.json").read_text())) == 2
    only = yolo("predict", "-c", str(checkpoint), "-s", "images/broken.jpg")
    assert only.code == 1 and len(only.err.splitlines()) == 1 and "web page" in only.err
    assert not Path("runs").exists(), "no empty folder is left"


def test_sources_are_never_overwritten(yolo: Run, checkpoint: Path, images: Path):
    before = (images / "first.JPG").read_bytes()
    for source, output in [
        ("images", "images"),
        ("images/first.JPG", "images"),
        ("images/first.JPG", "images/first.JPG"),
    ]:
        result = yolo("predict", "-c", str(checkpoint), "-s", source, "-o", output)
        assert result.code == 2 and "would overwrite the source image" in result.err
    assert (images / "first.JPG").read_bytes() == before and files(images) == ["first.JPG", "more/second.jpg"]


def test_class_names_and_size_can_be_given(yolo: Run, checkpoint: Path, images: Path):
    Path("names.json").write_text('["red", "white", "small"]')
    common = ("predict", "-c", str(checkpoint), "-s", "images/first.JPG", "--save-json", "--no-draw", "-o", "o")
    assert yolo(*common, "--class-names", "names.json", "--size", "128x64", "--device", "cpu").code == 0
    record = json.loads(Path("o/predictions.json").read_text())[0]
    assert {entry["name"] for entry in record["detections"]} <= {"red", "white", "small"}
    Path("names.json").write_text('["red"]')
    result = yolo(*common, "--class-names", "names.json")
    assert result.code == 2 and "1 class names were given, but the network has 3 classes" in result.err
    result = yolo(*common, "--size", "100")
    assert result.code == 2 and "use 96 or 128" in result.err


def test_wrong_input_is_one_line(yolo: Run, checkpoint: Path, images: Path):
    cases = {
        ("-c", str(checkpoint.with_name("bset.ckpt")), "-s", "images"): (1, "there is 'best.ckpt'"),
        ("-c", str(checkpoint), "-s", "imagse"): (2, "'imagse' does not exist"),
        ("-c", str(checkpoint), "-s", "images", "--conf", "7"): (2, "--conf"),
        ("-c", str(checkpoint), "-s", "images", "-o", "images/first.JPG"): (2, "is a file"),
        ("-c", "images/first.JPG", "-s", "images"): (1, "not a checkpoint"),
    }
    for options, (code, words) in cases.items():
        result = yolo("predict", *options)
        assert result.code == code and words in result.err, (options, result)
        assert len(result.err.splitlines()) == 1, result.err
    Path("empty").mkdir()
    assert "no images in the folder" in yolo("predict", "-c", str(checkpoint), "-s", "empty").err


def test_a_folder_that_cannot_be_made_is_an_error(yolo: Run, checkpoint: Path, images: Path):
    Path("taken").write_text("a file")
    result = yolo("predict", "-c", str(checkpoint), "-s", "images", "-o", "taken/deeper")
    assert result.code == 1 and "cannot write the results" in result.err and "taken" in result.err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file names of Linux")
def test_awkward_names_are_printed_and_written(yolo: Run, checkpoint: Path, datasets: Path, images: Path):
    names = json.loads((datasets / "hostile/names.json").read_text(encoding="utf-8"))["names"]
    # Some of the corpus' names are as long as a name may be, and a picture is first written under a longer one.
    for name in names:
        if len(name.encode()) < 200:
            shutil.copy(datasets / "hostile/good/images/a.jpg", images / name)
    wanted = {path.name for path in images.rglob("*") if path.is_file()}
    result = yolo("predict", "-c", str(checkpoint), "-s", "images", "-o", "out", "--save-json")
    assert result.code == 0, result.err
    assert {path.name for path in Path("out").rglob("*") if path.is_file()} == wanted | {"predictions.json"}
    assert len(result.out.splitlines()) == len(wanted) + 3
    records = json.loads(Path("out/predictions.json").read_text())
    assert {Path(record["image"]).name for record in records} == wanted


def test_formats_that_are_not_written_become_jpeg(yolo: Run, checkpoint: Path, datasets: Path, images: Path):
    for name in ("lzw.tif", "animated_gif.gif", "lossy.webp", "rgba.png"):
        shutil.copy(datasets / "hostile/images" / name, images / name)
    result = yolo("predict", "-c", str(checkpoint), "-s", "images", "-o", "out")
    assert result.code == 0
    assert {"lzw.tif.jpg", "animated_gif.gif.jpg", "lossy.webp", "rgba.png"} <= set(files(Path("out")))
    assert "Warning: " in result.err and "animated_gif.gif" in result.err and "only the first" in result.err


def test_help_names_every_option_of_the_specification_without_torch(yolo: Run, yolo_process: Run):
    text = yolo("predict", "--help").out
    for option in (
        *("-c, --checkpoint", "-s, --source", "-o, --output", "--conf", "--iou", "--max-det", "--draw / --no-draw"),
        *("--save-json", "--class-names", "--device", "--size", "0.25", "0.65", "300", "640", "auto"),
    ):
        assert option in text, option
    code = (
        "import sys; from yolo.cli.main import main; code = main(['predict', '--help']); "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules; sys.exit(code)"
    )
    assert yolo_process("-c", code).code == 0
