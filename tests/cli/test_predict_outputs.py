"""Everything that ``yolo predict`` writes besides pictures and JSON, and sources that are no folder."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from yolo.cli.predictions.names import Names, Unique
from yolo.cli.predictions.sinks import PendingFile
from yolo.core.images import read_image
from yolo.core.models.build import build_model
from yolo.core.models.spec import parse_spec
from yolo.core.results import Detections
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle
from yolo.core.weights.coco import coco_category_ids, coco_names

Run = Callable[..., Any]
NAMES = ("red", "../green", "blue")
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
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with images/ (7.png, b.tif, b.tif.jpg) and clip.avi of five frames."""
    folder = tmp_path / "work"
    (folder / "images").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    for name in ("7.png", "b.tif", "b.tif.jpg"):
        Image.fromarray(noise).save(folder / "images" / name)
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for number in range(5):
        writer.write(np.full((64, 96, 3), 40 * number, np.uint8))
    writer.release()
    monkeypatch.chdir(folder)
    return folder


def files(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_every_kind_of_record_says_the_same(yolo: Run, checkpoint: Path, work: Path) -> None:
    options = ("--save-csv", "--save-coco", "--save-txt", "--save-conf", "--save-json", "--no-draw", "--max-det", "4")
    result = yolo("predict", "-c", str(checkpoint), "-s", "images", "-o", "out", *options)
    assert result.code == 0, result.err
    records = json.loads(Path("out/predictions.json").read_text())
    assert [record["image"] for record in records] == ["7.png", "b.tif", "b.tif.jpg"]
    rows = list(csv.DictReader(io.StringIO(Path("out/predictions.csv").read_text())))
    coco = json.loads(Path("out/coco_predictions.json").read_text())
    assert len(rows) == len(coco) == sum(len(record["detections"]) for record in records) == 12
    assert {entry["image_id"] for entry in coco} == {7, "b.tif", "b.tif.jpg"}
    flat = [(record, entry) for record in records for entry in record["detections"]]
    for (record, entry), row, result_of_coco in zip(flat, rows, coco, strict=True):
        x1, y1, x2, y2 = entry["box"]
        assert (row["image"], row["name"], row["frame"]) == (record["image"], entry["name"], "")
        assert [float(row[key]) for key in ("score", "x1", "y1", "x2", "y2")] == [entry["score"], x1, y1, x2, y2]
        assert result_of_coco["category_id"] == entry["label"]
        assert result_of_coco["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=0.02)
    assert files("out/labels") == ["7.txt", "b.tif.txt", "b.txt"]
    for name, record in zip(("7", "b", "b.tif"), records, strict=True):
        lines = Path(f"out/labels/{name}.txt").read_text().splitlines()
        for line, entry in zip(lines, record["detections"], strict=True):
            label, cx, cy, w, h, score = map(float, line.split())
            box = [(cx - w / 2) * 90, (cy - h / 2) * 60, (cx + w / 2) * 90, (cy + h / 2) * 60]
            assert label == entry["label"] and box == pytest.approx(entry["box"], abs=0.02)
            assert score == pytest.approx(entry["score"], abs=1e-5)


def test_two_pictures_of_one_drawn_name_are_both_kept(yolo: Run, checkpoint: Path, work: Path) -> None:
    assert yolo("predict", "-c", str(checkpoint), "-s", "images", "-o", "out", "--no-save-json").code == 0
    assert files("out") == ["7.png", "b.tif.jpg", "b.tif_2.jpg"]


def test_two_pictures_of_one_stem_have_label_files_of_their_own(yolo: Run, checkpoint: Path, work: Path) -> None:
    shutil.copy("images/7.png", "images/b.png")
    assert yolo("predict", "-c", str(checkpoint), "-s", "images", "-o", "out", "--no-draw", "--save-txt").code == 0
    assert files("out/labels") == ["7.txt", "b.tif.jpg.txt", "b.tif.txt", "b.txt"]


def test_crops_lie_below_their_class_and_nowhere_else(yolo: Run, checkpoint: Path, work: Path) -> None:
    options = ("--save-crops", "--no-draw", "--save-json", "--conf", "0.3")
    assert yolo("predict", "-c", str(checkpoint), "-s", "images/7.png", "-o", "out", *options).code == 0
    (record,) = json.loads(Path("out/predictions.json").read_text())
    crops = files("out/crops")
    assert len(crops) == len(record["detections"]) > 0
    assert {name.split("/")[0] for name in crops} <= {"red", "___green", "blue"}
    for number, entry in enumerate(record["detections"]):
        x1, y1, x2, y2 = entry["box"]
        folder = {"../green": "___green"}.get(entry["name"], entry["name"])
        height, width, _ = read_image(Path("out/crops") / folder / f"7_{number}.jpg").shape
        assert width == pytest.approx(x2 - x1, abs=2.01) and height == pytest.approx(y2 - y1, abs=2.01)


def test_a_video_becomes_a_video_and_records_with_frames(yolo: Run, checkpoint: Path, work: Path) -> None:
    result = yolo("predict", "-c", str(checkpoint), "-s", "clip.avi", "-o", "out", "--save-json")
    assert result.code == 0, result.err
    assert files("out") == ["clip.mp4", "predictions.json"]
    assert "Video: out/clip.mp4" in result.out and "5 images" in result.out
    records = json.loads(Path("out/predictions.json").read_text())
    assert [(record["image"], record["frame"]) for record in records] == [(f"clip_{n:06d}.jpg", n) for n in range(5)]
    video = cv2.VideoCapture("out/clip.mp4")
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (5, 10)
    found, frame = video.read()
    assert found and frame.shape == (64, 96, 3) and frame.max() > 60, "boxes are drawn on the black frame"
    video.release()


def test_frames_can_be_limited_and_a_source_is_never_overwritten(yolo: Run, checkpoint: Path, work: Path) -> None:
    shutil.copy("clip.avi", "clip.mp4")
    before = Path("clip.mp4").read_bytes()
    result = yolo("predict", "-c", str(checkpoint), "-s", "clip.mp4", "-o", ".", "--max-frames", "2", "--no-save-json")
    assert result.code == 0 and "2 images" in result.out
    assert Path("clip.mp4").read_bytes() == before and Path("clip_2.mp4").is_file()


@pytest.mark.parametrize("source", ["images/*.png", "list.txt", "-"])
def test_patterns_lists_and_standard_input(
    yolo: Run, checkpoint: Path, work: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    Path("list.txt").write_text("images/7.png\n")
    data = Path("images/7.png").read_bytes()
    monkeypatch.setattr("yolo.core.sources.sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    result = yolo("predict", "-c", str(checkpoint), "-s", source, "-o", "out", "--no-save-json")
    assert result.code == 0, result.err
    assert files("out") == {"-": ["standard_input.jpg"], "list.txt": ["images/7.png"]}.get(source, ["7.png"])


def test_a_bad_entry_of_a_list_is_skipped_with_exit_code_1(yolo: Run, checkpoint: Path, work: Path) -> None:
    Path("list.txt").write_text("images/7.png\nimages/gone.png\nimages/b.tif\n")
    result = yolo("predict", "-c", str(checkpoint), "-s", "list.txt", "-o", "out", "--save-json", "--no-draw")
    assert result.code == 1
    assert "gone.png" in result.err and "1 of 3 images could not be read" in result.err
    assert len(json.loads(Path("out/predictions.json").read_text())) == 2


def test_coco_classes_get_their_published_ids() -> None:
    ids = coco_category_ids(coco_names())
    assert ids is not None and len(ids) == 80
    assert (ids[0], ids[11], ids[12], ids[79]) == (1, 13, 14, 90)
    assert coco_category_ids(NAMES) is None


def predict(yolo: Run, checkpoint: Path, source: str, *options: str) -> Any:
    return yolo("predict", "-c", str(checkpoint), "-s", source, *options)


def test_one_bad_video_of_a_list_does_not_end_the_run(yolo: Run, checkpoint: Path, work: Path) -> None:
    Path("bad.mp4").write_bytes(b"no video")
    Path("empty").mkdir()
    Path("all.lst").write_text("images/7.png\nbad.mp4\nempty\nall.lst\nftp://a/b.jpg\nclip.avi\nimages/b.tif\n")
    result = predict(yolo, checkpoint, "all.lst", "-o", "out", "--save-json", "--batch-size", "3")
    assert result.code == 1 and "4 of 11 images could not be read" in result.err, result.err
    assert [result.err.count(f"{name!r}") for name in ("bad.mp4", "empty", "ftp://a/b.jpg")] == [1, 1, 1]
    assert "another list" in result.err
    names = [record["image"] for record in json.loads(Path("out/predictions.json").read_text())]
    assert names == ["images/7.png", *(f"clip_{number:06d}.jpg" for number in range(5)), "images/b.tif"]


def test_pictures_of_a_pattern_or_list_are_called_by_their_folders(yolo: Run, checkpoint: Path, work: Path) -> None:
    for folder in ("a", "b"):
        Path("scenes", folder).mkdir(parents=True)
        shutil.copy("images/7.png", f"scenes/{folder}/x.png")
    Path("scenes/list.txt").write_text(f"a/x.png\n{work}/images/7.png\n../images/7.png\n", encoding="utf-8-sig")
    expected = {"scenes/*/x.png": ["a/x.png", "b/x.png"], "scenes/list.txt": ["a/x.png", "7.png", "7_2.png"]}
    for source, names in expected.items():
        assert predict(yolo, checkpoint, source, "-o", "out", "--no-draw", "--save-json").code == 0
        assert [record["image"] for record in json.loads(Path("out/predictions.json").read_text())] == names


def test_no_other_source_is_overwritten_either(yolo: Run, checkpoint: Path, work: Path) -> None:
    Path("images/sub").mkdir()
    Image.new("RGB", (40, 30)).save("images/sub/7.png")
    before = Path("images/sub/7.png").read_bytes()
    result = predict(yolo, checkpoint, "images", "-o", "images/sub")
    assert result.code == 2 and "would overwrite the source image" in result.err
    Path("list.txt").write_text("images/7.png\nimages/sub/7.png\n")
    shutil.move("list.txt", "images/list.txt")
    Path("images/list.txt").write_text("7.png\n")
    assert predict(yolo, checkpoint, "images/list.txt", "-o", "images").code == 2
    assert predict(yolo, checkpoint, "images/*.png", "-o", "images").code == 2
    assert Path("images/sub/7.png").read_bytes() == before
    assert predict(yolo, checkpoint, "images/7.png", "-o", ".").code == 0, "the folder of a list is no source"


def test_one_video_may_be_named(yolo: Run, checkpoint: Path, work: Path) -> None:
    assert predict(yolo, checkpoint, "clip.avi", "-o", "new/seen.mp4").code == 0
    assert files("new") == ["seen.mp4"]
    shutil.copy("new/seen.mp4", "seen.mp4")
    assert predict(yolo, checkpoint, "seen.mp4", "-o", "seen.mp4").code == 2
    assert Path("seen.mp4").read_bytes() == Path("new/seen.mp4").read_bytes()


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("images", "x.png"),
        ("list.txt", "x.png"),
        ("images/*", "x.jpg"),
        ("clip.avi", "x.png"),
        ("images/7.png", "x.mp4"),
    ],
)
def test_one_name_is_not_for_several_pictures(
    yolo: Run, checkpoint: Path, work: Path, source: str, output: str
) -> None:
    Path("list.txt").write_text("images/7.png\nimages/b.tif\n")
    result = predict(yolo, checkpoint, source, "-o", output)
    assert result.code == 2 and "give a folder" in result.err and not Path(output).exists()


def test_empty_names_are_refused(yolo: Run, checkpoint: Path, work: Path) -> None:
    assert "--source" in predict(yolo, checkpoint, "").err
    result = predict(yolo, checkpoint, "images/7.png", "-o", "")
    assert result.code == 2 and "--output is empty" in result.err
    assert predict(yolo, checkpoint, "x" * 300 + ".jpg").code == 2


def test_crops_of_two_pictures_or_classes_never_meet(yolo: Run, checkpoint: Path, work: Path) -> None:
    shutil.copy("images/7.png", "images/b.png")
    Path("names.txt").write_text("a/b\na_b\na b\n")
    options = ("--no-draw", "--save-crops", "--save-json", "--class-names", "names.txt", "-o", "out")
    assert predict(yolo, checkpoint, "images", *options).code == 0
    records = json.loads(Path("out/predictions.json").read_text())
    wanted = {(record["image"], entry["name"]) for record in records for entry in record["detections"]}
    crops = files("out/crops")
    assert len(crops) == sum(len(record["detections"]) for record in records)
    assert len({tuple(name.rpartition("_")[0].split("/")) for name in crops}) == len(wanted)


def test_two_pictures_of_one_number_have_two_ids(yolo: Run, checkpoint: Path, work: Path) -> None:
    Path("images/more").mkdir()
    shutil.copy("images/7.png", "images/more/7.png")
    assert predict(yolo, checkpoint, "images", "--no-draw", "--save-coco", "-o", "out").code == 0
    ids = {entry["image_id"] for entry in json.loads(Path("out/coco_predictions.json").read_text())}
    assert ids == {7, "more/7.png", "b.tif", "b.tif.jpg"}


@pytest.mark.skipif(sys.platform != "linux", reason="file names of Linux")
def test_a_name_that_is_no_text_is_written_everywhere(yolo: Run, checkpoint: Path, work: Path) -> None:
    name = os.fsdecode(b"caf\xe9,\n.png")
    Path("odd").mkdir()
    shutil.copy("images/7.png", Path("odd", name))
    options = ("--save-csv", "--save-json", "--save-txt", "--save-crops", "--save-coco", "-o", "out")
    assert predict(yolo, checkpoint, "odd", *options).code == 0
    rows = list(csv.DictReader(io.StringIO(Path("out/predictions.csv").read_text("utf-8"))))
    assert rows and {row["image"] for row in rows} == {"caf\\udce9,\n.png"}


def test_an_interrupted_run_keeps_what_it_has_and_says_so(
    yolo: Run, checkpoint: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("yolo.cli.predictions.records.write_atomically", interrupted)
    result = predict(yolo, checkpoint, "images", "--save-json", "--save-txt", "-o", "out")
    assert result.code == 130 and "until now is kept" in result.err
    assert len(json.loads(Path("out/predictions.json").read_text())) == 1
    assert files("out") == ["7.png", "predictions.json"]


def test_a_disk_that_is_full_leaves_nothing_behind(
    yolo: Run, checkpoint: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: PendingFile, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = PendingFile.write
    monkeypatch.setattr(PendingFile, "write", lambda file, text: (full if text == "\n]\n" else before)(file, text))
    result = predict(yolo, checkpoint, "images", "--no-draw", "--save-json", "--save-csv", "-o", "out")
    assert result.code == 1 and "No space left" in result.err
    assert files("out") == ["predictions.csv"]


def test_frames_of_endless_streams_are_not_remembered() -> None:
    names = Names(None)
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    found = [Detections(*empty, (), (8, 8), source="camera 0", frame=frame) for frame in (*range(500), 0, 1)]
    given = [names.of(one) for one in found]
    assert len(set(given)) == len(given) and given[-1] == "camera_0_2_000001.jpg"
    assert len(names._unique._given) == 2


def test_many_pictures_of_one_name_take_no_longer_each() -> None:
    unique = Unique()
    given = [unique("a/rgb.jpg") for _ in range(5000)]
    assert len(set(given)) == 5000 and given[:2] == ["a/rgb.jpg", "a/rgb_2.jpg"]
    assert unique("b.txt", "b.png.txt") == "b.txt" and unique("b.txt", "b.png.txt") == "b.png.txt"


def test_a_name_that_the_encoding_of_a_pipe_lacks_is_printed_in_another_way(
    yolo: Run, checkpoint: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, "ascii"))
    shutil.copy("images/7.png", "sieben日.png")
    assert predict(yolo, checkpoint, "sieben日.png", "--no-draw").code == 0
    sys.stdout.flush()
    assert pipe.getvalue().startswith(rb"sieben\u65e5.png  90x60")
