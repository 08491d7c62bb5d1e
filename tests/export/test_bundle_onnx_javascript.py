"""The JavaScript program of a bundle, with onnxruntime from npm."""

from __future__ import annotations

import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from availability import cannot_run, tool
from yolo.core import Predictor

RUNTIME = "onnxruntime-node"


@pytest.fixture(scope="module")
def modules(bundle, tmp_path_factory):
    """A folder node_modules with what package.json asks for."""
    tool("node")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", ".npmrc"):
        shutil.copy(bundle / "javascript" / name, folder)
    # No sharp: it is for other pictures.
    command = [tool("npm"), "install", "--omit=optional", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        cannot_run(f"npm install failed: {done.stderr.strip()[-500:]}")
    return folder / "node_modules"


@pytest.fixture
def copied(bundle, modules, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "elsewhere")
    (folder / "javascript/node_modules").symlink_to(modules)
    return folder


def _node(bundle, *arguments):
    command = ["node", bundle / "javascript/onnx_inference.mjs", *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_it_reproduces_the_golden_output(copied):
    code, out, err = _node(copied, "--self-check")
    assert (code, err) == (0, "")
    assert out.count("ok ") == 4
    assert "picture to input, grey levels: 0.00 " in out


@pytest.mark.parametrize(
    ("name", "index", "step"),
    [
        ("input", 30, "picture to input"),
        ("output", 0, "input to output, boxes"),
        ("output", -1, "input to output, scores"),
    ],
)
def test_a_wrong_step_is_named(copied, name, index, step):
    path = copied / f"golden/{name}.f32"
    values = np.fromfile(path, "<f4")
    values[index] += 0.1
    values.tofile(path)
    code, out, _ = _node(copied, "--self-check")
    assert code == 1
    assert f"FAIL {step}" in out


def test_wrong_detections_are_told(copied):
    path = copied / "golden/detections.json"
    path.write_text(json.dumps(json.loads(path.read_text())[1:]))
    code, out, _ = _node(copied, "--self-check")
    assert code == 1
    assert "FAIL output to detections: Infinity" in out


@pytest.mark.parametrize("colour", [cv2.COLOR_BGR2BGRA, cv2.COLOR_BGR2GRAY, None])
def test_it_finds_what_the_predictor_finds(copied, datasets, tmp_path, colour):
    photo = sorted((datasets / "bccd/images/test").glob("*.jpg"))[0]
    picture = cv2.imread(str(photo))
    cv2.imwrite(str(tmp_path / "photo.png"), picture if colour is None else cv2.cvtColor(picture, colour))
    confidence = json.loads((copied / "spec.json").read_text(encoding="utf-8"))["golden"]["nms"]["confidence"]
    wanted = Predictor(copied / "plain.onnx", confidence=confidence, iou=0.5)(tmp_path / "photo.png")[0]
    options = ["--conf-thresh", repr(confidence), "--iou-thresh", "0.5", "--json", tmp_path / "found.json"]
    code, out, err = _node(copied, "--image", tmp_path / "photo.png", *options)
    assert (code, err) == (0, "")
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["detections"]
    assert len(found) == len(wanted) > 3
    assert f"Found {len(found)} detections" in out
    np.testing.assert_allclose([one["box"] for one in found], wanted.boxes, atol=1e-2)
    np.testing.assert_allclose([one["score"] for one in found], wanted.scores, atol=1e-5)


def test_mistakes_are_told_in_one_line(copied, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    for arguments, message in (
        ([], "give a picture with --image, or --self-check"),
        (["--image", "nowhere.png"], "nowhere.png"),
        (["--image", tmp_path / "text.jpg"], "npm install sharp reads others"),
        (["--image", "any", "--conf-thresh", "high"], "--conf-thresh must be a number from 0 to 1, not high"),
        (["--image", "any", "--iou-thresh", "7"], "--iou-thresh must be a number from 0 to 1, not 7"),
        (["--output", "boxes.png"], "'--output'"),
    ):
        code, _, err = _node(copied, *arguments)
        assert code == 1
        assert message in err
        assert len(err.splitlines()) == 1


def test_it_tells_its_options(copied):
    code, out, err = _node(copied, "--help")
    assert (code, err) == (0, "")
    for name in ("image", "json", "conf-thresh", "iou-thresh", "max-detections", "model", "spec", "self-check"):
        assert f"--{name} " in out


def test_without_a_runtime_it_says_what_to_install(copied):
    (copied / "javascript/node_modules").unlink()
    code, _, err = _node(copied, "--self-check")
    assert code == 1
    assert "npm install" in err
