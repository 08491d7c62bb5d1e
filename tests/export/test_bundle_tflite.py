"""The bundle of a TensorFlow Lite file, with files of a few nodes that are made without TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs yolo-export[litert]")

import tiny_tflite as tiny
from json_schema import problems
from tiny_tflite import METADATA
from yolo.core import Predictor
from yolo.export.backends.tflite import append_metadata
from yolo.export.bundle import write_bundle
from yolo.export.manifest import sha256
from yolo.export.runtimes.distributions import FORM
from yolo.export.runtimes.litert import LiteRtRuntime

GUARD = """
import os, runpy, sys
sys.path.append(sys.argv[1])  # where LiteRT is, if it is not among the other packages
sys.argv = sys.argv[2:]
sys.path[0] = os.path.dirname(sys.argv[0])
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    foreign = {"yolo", "torch", "PIL", "onnx", "onnxruntime", "tensorflow"} & set(sys.modules)
    assert not foreign, foreign
"""
KINDS = {
    "float": lambda path: tiny.write_decoded(path),
    "integers": lambda path: tiny.write_decoded(path, integers=True),
    "distributions": lambda path: tiny.write_raw(path),
    "distributions of integers": lambda path: tiny.write_raw(path, integers=True, swapped=True),
}


@pytest.fixture(params=KINDS)
def bundled(request, tmp_path):
    model = KINDS[request.param](tmp_path / "tiny.tflite")
    append_metadata(model, METADATA)
    runtime = LiteRtRuntime(model, threads=1)
    manifest = {
        "format": "tflite",
        "file": {"name": model.name, "bytes": model.stat().st_size, "sha256": sha256(model)},
        "settings": {"precision": "int8" if "integers" in request.param else "float32", "tensors": runtime.describe()},
        "versions": {"yolo-export": "0"},
    }
    folder = tmp_path / "tiny.tflite.bundle"
    return write_bundle(folder, model_path=model, manifest=manifest, metadata=METADATA, runtime=runtime)


def _python(bundle, *arguments):
    litert = Path(importlib.util.find_spec("ai_edge_litert").origin).parents[1]
    command = [sys.executable, "-E", "-s", "-c", GUARD, litert, bundle / "python/tflite_inference.py", *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_it_reproduces_the_golden_output(bundled):
    code, out, _ = _python(bundled, "--self-check")
    assert code == 0, out
    assert len(re.findall(r"^ok +", out, re.MULTILINE)) == 4
    (np.fromfile(bundled / "golden/output.f32", "<f4") + 10).tofile(bundled / "golden/output.f32")
    assert _python(bundled, "--self-check")[0] == 1


def test_it_finds_what_the_predictor_finds(bundled, tmp_path):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.random.default_rng(1).integers(0, 256, (60, 45, 3), dtype=np.uint8))
    wanted = Predictor(bundled / "tiny.tflite", confidence=0.4)(photo)[0]
    code, _, err = _python(bundled, "--image", photo, "--conf-thresh", "0.4", "--json", tmp_path / "found.json")
    assert code == 0, err
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["detections"]
    assert len(found) == len(wanted)
    assert {one["name"] for one in found} <= {"cat", "Hündin"}
    np.testing.assert_allclose([one["box"] for one in found], wanted.boxes.reshape(-1, 4).tolist(), atol=1e-3)
    np.testing.assert_allclose([one["score"] for one in found], wanted.scores, atol=1e-6)


def test_what_it_ships_and_says(bundled):
    spec = json.loads((bundled / "spec.json").read_text(encoding="utf-8"))
    assert problems(spec, json.loads((bundled / "spec.schema.json").read_text(encoding="utf-8"))) == []
    assert sorted(path.name for path in bundled.iterdir() if path.is_dir()) == ["golden", "python"]
    assert spec["input"]["layout"] == "NHWC"
    assert spec["input"]["shape"] == [1, 32, 32, 3]
    assert spec["output"]["shape"] == [1, 6, 21]
    integers = spec["model"]["precision"] == "int8"
    assert spec["input"]["dtype"] == ("int8" if integers else "float32")
    assert spec["input"].get("scale") == (1 / 16 if integers else None)
    if spec["output"].get("form") == FORM:
        assert spec["output"]["bins"] == 16
        assert spec["output"]["logits"]["shape"] == [1, 64, 21]
    readme = (bundled / "README.md").read_text(encoding="utf-8")
    assert "tflite_inference.py --self-check" in readme
    assert "C++" not in readme
