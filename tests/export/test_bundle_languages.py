"""The letterbox and the suppression of a bundle's programs are those of yolo-core, in every language."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from availability import tool
from yolo.core.boxes.convert import cxcywh_to_xyxy
from yolo.core.boxes.nms import non_max_suppression
from yolo.core.letterbox import letterbox, letterbox_geometry, undo_letterbox
from yolo.export.bundle.spec import Thresholds
from yolo.export.samples import to_input

HARNESS = Path(__file__).parent / "bundle_harness"
RUNNERS = Path(importlib.import_module("yolo.export.bundle").__file__).parent / "runners"

# (width, height) of the picture and of the canvas: halved, copied, one pixel, narrow, both directions of scale.
SIZES = [
    ((192, 128), (96, 64)),
    ((96, 64), (96, 64)),
    ((1, 1), (64, 64)),
    ((1, 200), (64, 96)),
    ((300, 2), (96, 64)),
    ((77, 40), (640, 320)),
    ((638, 17), (640, 32)),
]


def _run(*command, timeout=120):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def python(folder: Path, build: Path) -> None:
    sys.path.insert(0, str(RUNNERS / "python"))
    try:
        detector, command = importlib.import_module("detector"), importlib.import_module("command")
    finally:
        sys.path.remove(str(RUNNERS / "python"))
        sys.modules.pop("detector", None)
        sys.modules.pop("command", None)
    cases = json.loads((folder / "cases.json").read_text())
    for one in cases["pictures"]:
        canvas, _ = detector.letterbox(command.read_picture(folder / one["file"]), (one["width"], one["height"]))
        detector.to_input(canvas).tofile(folder / f"{one['file']}.f32")
    for one in cases["outputs"]:
        output = np.fromfile(folder / one["file"], "<f4").reshape(1, one["rows"], -1)
        where = detector.place(tuple(one["source"]), tuple(one["target"]))
        found = detector.detect(output, where, **one["nms"])
        rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        text = "\n".join(" ".join(map(repr, (label, score, *box))) for label, score, box in rows)
        (folder / f"{one['file']}.txt").write_text(text)


def javascript(folder: Path, build: Path) -> None:
    _run(tool("node"), HARNESS / "harness.mjs", RUNNERS / "javascript", folder)


def cpp(folder: Path, build: Path) -> None:
    options = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-I", RUNNERS / "cpp"]
    _run(tool("g++"), *options, HARNESS / "harness.cpp", "-o", build / "harness")
    _run(build / "harness", folder)


def csharp(folder: Path, build: Path) -> None:
    sources = [HARNESS / "Harness.cs", RUNNERS / "csharp/Detector.cs", RUNNERS / "csharp/Files.cs"]
    program = build / "Harness.exe"
    libraries = ["-r:System.Runtime.Serialization", "-r:System.Core"]
    _run(tool("mcs"), "-nologo", "-warnaserror", "-nowarn:649", *libraries, f"-out:{program}", *sources)
    _run(tool("mono"), program, folder)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    """Pictures as PPM, and outputs of networks, of which many scores are equal and some numbers undefined."""
    folder = tmp_path_factory.mktemp("cases")
    generator = np.random.default_rng(0)
    sizes = list(SIZES)
    for _ in range(40):
        width, height, columns, rows = (int(side) for side in generator.integers((1, 1, 1, 1), (300, 300, 8, 8)))
        sizes.append(((width, height), (32 * columns, 32 * rows)))
    pictures = []
    for number, ((width, height), target) in enumerate(sizes):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (folder / f"{number}.ppm").write_bytes(f"P6\n# a comment\n{width} {height}\n255\n".encode() + pixels.tobytes())
        pictures.append({"file": f"{number}.ppm", "width": target[0], "height": target[1]})
    outputs = []
    for number, thresholds in enumerate(
        [
            Thresholds(),
            Thresholds(confidence=0.3, iou=0.5, max_detections=7),
            Thresholds(confidence=0.001, iou=0.9, max_candidates=150),
            Thresholds(confidence=0.999),
            Thresholds(confidence=0.25, iou=0.5, max_detections=5000),
            Thresholds(confidence=0.85, iou=0.3, max_detections=5000),
        ]
    ):
        output = np.concatenate(
            [generator.uniform(0, 96, (2, 400)), generator.uniform(20 * (number > 3), 60, (2, 400))]
        )
        scores = generator.integers(0, 20, (3, 400)) / 20  # many equal ones
        output = np.concatenate([output, scores]).astype("<f4")
        output[0, 5], output[2, 7], output[3, 9] = np.nan, np.inf, 0
        output[:, 20], output[:, 21] = (48, 32, 2, 2, 1, 0, 0), (48, 31.5, 2, 1, 1, 0, 0)  # the IoU is exactly 0.5
        output.tofile(folder / f"{number}.f32")
        outputs.append(
            {"file": f"{number}.f32", "rows": 7, "source": [203, 151], "target": [96, 64], "nms": asdict(thresholds)}
        )
    (folder / "cases.json").write_text(json.dumps({"pictures": pictures, "outputs": outputs}))
    return folder


def _wanted(folder: Path, one: dict) -> np.ndarray:
    """What yolo-core finds: rows of label, score, box."""
    rows = torch.from_numpy(np.fromfile(folder / one["file"], "<f4").reshape(1, one["rows"], -1)).transpose(1, 2)
    found = non_max_suppression(cxcywh_to_xyxy(rows[..., :4]), rows[..., 4:], **one["nms"])[0]
    geometry = letterbox_geometry(tuple(one["source"]), tuple(one["target"]))
    boxes = undo_letterbox(found.boxes, geometry)
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    table = torch.cat([found.labels[:, None].float(), found.scores[:, None], boxes], dim=1)[visible]
    return table.numpy()


@pytest.mark.parametrize("language", [python, javascript, cpp, csharp], ids=lambda run: run.__name__)
def test_letterbox_and_suppression(cases, tmp_path, language):
    folder = shutil.copytree(cases, tmp_path / "cases")
    build = tmp_path / "build"
    build.mkdir()
    language(folder, build)
    content = json.loads((folder / "cases.json").read_text())
    for one in content["pictures"]:
        bytes_ = (folder / one["file"]).read_bytes()
        width, height = map(int, bytes_.split(b"\n")[2].split())
        pixels = np.frombuffer(bytes_[-width * height * 3 :], np.uint8).reshape(height, width, 3)
        canvas, _ = letterbox(pixels, (one["width"], one["height"]))
        found = np.fromfile(folder / f"{one['file']}.f32", "<f4")
        assert np.array_equal(found, to_input(canvas).ravel()), (width, height, one)
    for one in content["outputs"]:
        wanted = _wanted(folder, one)
        text = (folder / f"{one['file']}.txt").read_text()
        found = np.array([line.split() for line in text.splitlines()], np.float64).reshape(-1, 6)
        assert found[:, 0].tolist() == wanted[:, 0].tolist(), one
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-4)
    assert len(_wanted(folder, content["outputs"][0])) > 20
    assert len(_wanted(folder, content["outputs"][1])) == 7
