"""The Python program of a bundle, as somebody without this software runs it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from yolo.core import Predictor

ALLOWED = {"numpy", "cv2", "onnxruntime", "ai_edge_litert"}
OURS = {"detector", "command"}

# Runs a program, and then looks at what has been imported meanwhile.
GUARD = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    foreign = {"yolo", "torch", "torchvision", "PIL", "onnx", "tensorflow"} & set(sys.modules)
    assert not foreign, foreign
"""


def _python(bundle, *arguments, cwd=None):
    """Run it where no variable leads to our packages; returns its exit code, output and errors."""
    program = bundle / "python/onnx_inference.py"
    command = [sys.executable, "-E", "-s", "-c", GUARD, program, *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def copied(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "elsewhere")


@pytest.fixture(scope="module")
def photos(datasets):
    return sorted((datasets / "bccd/images/test").glob("*.jpg"))[:3]


def test_the_programs_need_what_they_say(bundle):
    for path in (bundle / "python").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        tops = {name.split(".")[0] for name in names} - sys.stdlib_module_names - OURS
        assert tops <= ALLOWED, path
    told = (bundle / "python/requirements.txt").read_text()
    assert re.findall(r"^[\w-]+", told, re.MULTILINE) == ["numpy", "onnxruntime", "opencv-python-headless"]


def test_it_reproduces_the_golden_output(copied):
    code, out, err = _python(copied, "--self-check")
    assert (code, err) == (0, "")
    assert len(re.findall(r"^ok +.*allowed", out, re.MULTILINE)) == 4
    assert "The golden output is reproduced" in out


def _floats(path, change):
    values = np.fromfile(path, "<f4")
    change(values)
    values.tofile(path)


def break_picture(bundle):
    path = bundle / "golden/picture.png"
    picture = cv2.imread(str(path))
    picture[70:80, 90:110] ^= 128
    cv2.imwrite(str(path), picture)


def break_boxes(bundle):
    _floats(bundle / "golden/output.f32", lambda values: values.__setitem__(0, values[0] + 0.1))


def break_scores(bundle):
    _floats(bundle / "golden/output.f32", lambda values: values.__setitem__(-1, np.nan))


def break_detections(bundle):
    path = bundle / "golden/detections.json"
    content = json.loads(path.read_text())
    content[1]["box"][2] += 0.1
    path.write_text(json.dumps(content))


def break_count(bundle):
    path = bundle / "golden/detections.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))


def break_model(bundle):
    model = onnx.load(bundle / "plain.onnx")
    tensor = next(one for one in model.graph.initializer if len(one.dims) == 4)
    tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * 1.01).tobytes()
    onnx.save(model, bundle / "plain.onnx")


def break_letterbox(bundle):
    path = bundle / "spec.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["letterbox"]["fill"] = [115, 115, 115]
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "step"),
    [
        (break_picture, "picture to input"),
        (break_letterbox, "picture to input"),
        (break_boxes, "input to output, boxes"),
        (break_scores, "input to output, scores"),
        (break_model, "input to output"),
        (break_detections, "output to detections"),
        (break_count, "output to detections"),
    ],
)
def test_a_wrong_step_is_named(copied, harm, step):
    harm(copied)
    code, out, _ = _python(copied, "--self-check")
    assert code == 1
    assert "NOT reproduced" in out
    assert re.search(f"^FAIL {step}", out, re.MULTILINE), out


def test_it_finds_what_the_predictor_finds(bundle, photos, tmp_path):
    spec = json.loads((bundle / "spec.json").read_text(encoding="utf-8"))
    confidence = spec["golden"]["nms"]["confidence"]
    predict = Predictor(bundle / "plain.onnx", confidence=confidence, iou=0.5)
    with Image.open(photos[0]) as picture:  # lying on its side, as telephones write it
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(tmp_path / "turned.png", exif=exif)
    for photo in (*photos, tmp_path / "turned.png"):
        target = tmp_path / f"{photo.stem}.json"
        options = ["--conf-thresh", repr(confidence), "--iou-thresh", "0.5", "--image", photo, "--json", target]
        code, out, err = _python(bundle, *options)
        assert (code, err) == (0, "")
        found, wanted = json.loads(target.read_text(encoding="utf-8"))["detections"], predict(photo)[0]
        assert len(found) == len(wanted) > 3
        assert f"Found {len(found)} detections" in out
        assert [one["name"] for one in found] == [wanted.name_of(label) for label in wanted.labels.tolist()]
        np.testing.assert_allclose([one["score"] for one in found], wanted.scores, atol=1e-6)
        np.testing.assert_allclose([one["box"] for one in found], wanted.boxes, atol=1e-3)


def test_it_prints_and_draws(bundle, photos, tmp_path):
    code, out, err = _python(bundle, "--image", photos[0], "--conf-thresh", "0.01", "--output", tmp_path / "boxes.png")
    assert (code, err) == (0, "")
    assert "Input: images [1, 3, 64, 96]" in out
    assert re.search(r"^  \[0\] Class \d \(\w+.*\): [01]\.\d{3} \[[\d., ]+\]$", out, re.MULTILINE)
    before, after = cv2.imread(str(photos[0])), cv2.imread(str(tmp_path / "boxes.png"))
    assert before.shape == after.shape
    assert (before != after).any()


def test_one_model_file_without_the_bundle(bundle, photos, tmp_path):
    """The program alone: names come from the file, thresholds are those of `yolo predict`."""
    for name in ("detector.py", "command.py", "onnx_inference.py"):
        (tmp_path / "alone/python").mkdir(parents=True, exist_ok=True)
        shutil.copy(bundle / "python" / name, tmp_path / "alone/python")
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    options = ["--model", bundle / "plain.onnx", "--image", photos[0], "--conf-thresh", "0.01"]
    code, out, err = _python(tmp_path / "alone", *options)
    assert (code, err) == (0, "")
    assert re.search(r"Class \d \((circle|square|Dreieck ▲)\)", out)
    code, out, err = _python(tmp_path / "alone", *options, "--class-names", tmp_path / "names.txt")
    assert re.search(r"Class \d \([abc]\)", out)
    code, _, err = _python(tmp_path / "alone", *options[:2], "--self-check")
    assert (code, err) == (1, "Error: the check needs spec.json and the golden folder beside it\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 1, "give a picture with --image, or --self-check"),
        (["--image", "nowhere.jpg"], 1, "Error: nowhere.jpg: No such file or directory"),
        (["--image", "PHOTO", "--class-names", "text.jpg"], 1, "text.jpg has 1 names, but the model has 3 classes"),
        (["--image", "text.jpg"], 1, "text.jpg cannot be read as a picture"),
        (["--image", "empty.jpg"], 1, "empty.jpg cannot be read as a picture"),
        (["--image", "text.jpg", "--model", "text.jpg"], 1, "text.jpg cannot be loaded"),
        (["--image", "PHOTO", "--show"], 1, "there is no display for --show; use --output"),
        (["--image", "PHOTO", "--num-classes", "80"], 1, "the model has 3 classes, not 80"),
        (["--image", "PHOTO", "--input-size", "640", "640"], 1, "the model takes 96x64 (width x height), not 640x640"),
        (["--image", "PHOTO", "--output", "boxes.xyz"], 1, "boxes.xyz"),
        (["--image", "PHOTO", "--model", "OPEN", "--input-size", "60", "96"], 1, "must be multiples of 32, not 60 96"),
        (["--image", "PHOTO", "--conf-thresh", "2"], 2, "2 does not lie between 0 and 1"),
    ],
)
def test_mistakes_are_told_in_one_line(bundle, photos, tmp_path, monkeypatch, arguments, code, message):
    if "OPEN" in arguments:
        model = onnx.load(bundle / "plain.onnx")
        for axis, name in ((2, "height"), (3, "width")):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
        onnx.save(model, tmp_path / "OPEN")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    found, _, err = _python(bundle, *[str(photos[0]) if one == "PHOTO" else one for one in arguments], cwd=tmp_path)
    assert found == code
    assert message in err
    assert "Traceback" not in err
    assert code == 2 or len(err.splitlines()) == 1


def test_the_options_of_the_specification_exist(bundle):
    _, out, _ = _python(bundle, "--help")
    wanted = {"model", "image", "output", "conf-thresh", "iou-thresh", "num-classes", "input-size", "class-names"}
    assert wanted <= set(re.findall(r"--([\w-]+)", out))


def test_the_programs_carry_no_path_of_this_machine(bundle):
    for path in bundle.rglob("*"):
        if path.suffix in {".py", ".json", ".md", ".mjs", ".cpp", ".hpp", ".cs", ".txt"}:
            assert str(Path.home()) not in path.read_text(encoding="utf-8")
