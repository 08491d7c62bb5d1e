"""What lies in a deployment bundle, and when none is written."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from json_schema import problems
from yolo.cli.main import main
from yolo.core.errors import UsageError
from yolo.core.preprocessing import PREPROCESSING
from yolo.core.weights.published import catalogue
from yolo.export.bundle import write
from yolo.export.bundle.golden import draw_picture, make_golden
from yolo.export.bundle.spec import Thresholds
from yolo.export.metadata import Metadata
from yolo.export.runtimes.onnx import OnnxRuntime


@pytest.fixture(scope="module")
def spec(bundle):
    return json.loads((bundle / "spec.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schema(bundle):
    return json.loads((bundle / "spec.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def again(plain, spec):
    """Writes another bundle of the same model."""
    model = spec["model"]
    metadata = Metadata(
        class_names=tuple(spec["classes"]),
        image_size=(96, 64),
        strides=tuple(spec["decode"]["strides"]),
        architecture=model["architecture"],
        checkpoint_sha256=model["checkpoint_sha256"],
    )

    def write_again(folder, **changes):
        arguments = {
            "model_path": plain.path,
            "manifest": plain.manifest,
            "metadata": metadata,
            "runtime": OnnxRuntime(plain.path),
        }
        return write.write_bundle(folder, **{**arguments, **changes})

    return write_again


def test_the_description_is_described(spec, schema):
    assert problems(spec, schema) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.pop("nms"),
        lambda spec: spec["input"].update(layout="HWC"),
        lambda spec: spec["input"].update(mean=[0, 0, 0]),
        lambda spec: spec["golden"]["nms"].update(confidence=2),
        lambda spec: spec["letterbox"].update(fill=[114]),
        lambda spec: spec["model"].update(sha256="?"),
        lambda spec: spec.update(spec=2),
    ],
)
def test_the_schema_is_strict(spec, schema, change):
    broken = copy.deepcopy(spec)
    change(broken)
    assert problems(broken, schema)


def test_tensors_of_integers_fit_the_schema(spec, schema):
    tensor = {"name": "t", "shape": [1, 64, 126], "dtype": "int8", "scale": 0.1, "zero_point": -3}
    strict = copy.deepcopy(spec)
    strict["input"] |= {**tensor, "layout": "NHWC"}
    strict["output"] |= {"form": "distributions", "bins": 16, "logits": tensor, "scores": tensor}
    assert problems(strict, schema) == []


def test_it_says_what_the_model_says(spec, plain):
    assert (spec["input"]["width"], spec["input"]["height"]) == (96, 64)
    assert spec["classes"] == ["circle", "square", "Dreieck ▲"]
    assert spec["letterbox"] == PREPROCESSING["letterbox"]
    for key in ("color", "layout", "dtype", "divide_by"):
        assert spec["input"][key] == PREPROCESSING[key]
    assert spec["output"]["shape"] == [1, 7, 96 * 64 // 64 + 96 * 64 // 256 + 96 * 64 // 1024]
    assert spec["model"]["sha256"] == plain.manifest["file"]["sha256"]
    assert spec["licences"] == {"code": "MIT", "weights": "unknown"}
    assert {name: spec["nms"][name] for name in ("confidence", "iou", "max_detections")} == {
        "confidence": 0.25,
        "iou": 0.65,
        "max_detections": 300,
    }


def test_every_file_is_hashed(bundle):
    lines = (bundle / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    told = {name: digest for digest, name in (line.split("  ") for line in lines)}
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    there = {name for name in there if "__pycache__" not in name}  # of a test that ran a program there
    assert set(told) == there
    for name, digest in told.items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    assert there >= {"plain.onnx", "LICENSE", "README.md", "manifest.json", *write.RUNNERS["onnx"]}
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=bundle, check=True, timeout=60)


def test_every_program_is_shipped_with_some_format():
    folder = Path(write.__file__).parent / "runners"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    there = {name for name in there if "__pycache__" not in name}
    assert there == {"LICENSE"}.union(*write.RUNNERS.values())


def test_the_golden_files_belong_together(bundle, spec):
    golden = spec["golden"]
    picture = cv2.cvtColor(cv2.imread(str(bundle / golden["picture"]["file"])), cv2.COLOR_BGR2RGB)
    height, width = picture.shape[:2]
    assert (width, height) == (golden["picture"]["width"], golden["picture"]["height"])
    assert (bundle / golden["picture"]["raw"]).read_bytes().endswith(picture.tobytes())
    arrays = {
        name: np.fromfile(bundle / golden[name]["file"], "<f4").reshape(golden[name]["shape"])
        for name in ("input", "output")
    }
    assert np.array_equal(OnnxRuntime(bundle / "plain.onnx").predict(arrays["input"]), arrays["output"])
    detections = json.loads((bundle / golden["detections"]["file"]).read_text(encoding="utf-8"))
    assert len(detections) == golden["detections"]["count"] >= 5, "too few to show a wrong suppression"
    scores = arrays["output"][0, 4:].ravel()
    candidates = scores[scores > golden["nms"]["confidence"]]
    assert len(candidates) > len(detections), "nothing was suppressed"
    assert np.abs(scores - golden["nms"]["confidence"]).min() > 1e-6, "rounding may cross the threshold"


def test_few_or_equal_scores_have_a_threshold_too():
    class Flat:
        image_size = (96, 64)

        def predict(self, images):
            return np.full((1, 5, 2), 0.5, np.float32)

    golden = make_golden(Flat(), thresholds=Thresholds())
    assert 0 <= golden.thresholds.confidence <= 1


def test_the_drawn_picture_is_always_the_same():
    assert np.array_equal(draw_picture(), draw_picture())
    assert not np.array_equal(draw_picture(), draw_picture(1))


def test_equal_exports_make_equal_bundles(again, bundle, tmp_path):
    folder = again(tmp_path / "again")
    assert (folder / "SHA256SUMS").read_bytes() == (bundle / "SHA256SUMS").read_bytes()


def test_a_picture_and_thresholds_of_ones_own(again, tmp_path):
    picture = np.zeros((40, 30, 3), np.uint8)
    folder = again(tmp_path / "own", picture=picture, thresholds=Thresholds(confidence=0.5, iou=0.4))
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    assert (spec["nms"]["confidence"], spec["golden"]["nms"]["iou"]) == (0.5, 0.4)
    assert spec["golden"]["picture"]["height"] == 40


def test_an_old_bundle_is_replaced(again, bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    (folder / "left over").touch()
    again(folder)
    assert not (folder / "left over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_nothing_else_is_replaced(again, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name in ("mine", "file", "link"):
        with pytest.raises(UsageError, match="is no bundle; move it away"):
            again(tmp_path / name)
    assert (tmp_path / "mine/thesis.txt").read_text() == "years"
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "file", "link"}


def test_a_failure_leaves_the_old_bundle(again, bundle, tmp_path, monkeypatch):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    before = (folder / "SHA256SUMS").read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "_write_golden", fail)
    with pytest.raises(write.ExportError, match="No space left on device"):
        again(folder)
    assert (folder / "SHA256SUMS").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_formats_without_programs(again, plain, tmp_path):
    with pytest.raises(UsageError, match="there is none for the format 'saved_model'; take onnx or tflite"):
        again(tmp_path / "new", manifest={**plain.manifest, "format": "saved_model"})
    assert list(tmp_path.iterdir()) == []


def test_the_licence_of_published_weights_is_told(monkeypatch):
    known = replace(catalogue()[0], sha256="1" * 64, licence="GPL-3.0-only")
    monkeypatch.setattr(write, "catalogue", lambda: (known, replace(known, sha256=None, licence="MIT")))
    assert write.weights_licence("1" * 64) == "GPL-3.0-only"
    assert write.weights_licence("0" * 64) == "unknown"


def test_the_command_writes_one(checkpoint, tmp_path, capsys, fake_backend):
    fake_backend()
    arguments = ["export", "-c", str(checkpoint), "-o", str(tmp_path / "best.onnx"), "--bundle"]
    assert main(arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "best.onnx.bundle/best.onnx").read_bytes() == (tmp_path / "best.onnx").read_bytes()
    assert f"Wrote {tmp_path / 'best.onnx.bundle'}" in capsys.readouterr().out


def test_what_is_in_the_way_is_told_before_any_work(checkpoint, tmp_path, capsys, fake_backend):
    requests = fake_backend()
    (tmp_path / "best.onnx.bundle").mkdir()
    (tmp_path / "best.onnx.bundle/thesis.txt").touch()
    assert main(["export", "-c", str(checkpoint), "-o", str(tmp_path / "best.onnx"), "--bundle"]) == 2
    assert "best.onnx.bundle', which is no bundle; move it away" in capsys.readouterr().err
    assert requests == []
