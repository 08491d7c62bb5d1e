"""The C++ and C# programs of a bundle, compiled; where their runtime is out of reach, with a stand-in for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from availability import cannot_run, tool
from yolo.core import Predictor

HARNESS = Path(__file__).parent / "bundle_harness"
PACKAGE = "com.github.asus4.onnxruntime@0.4.9"  # MIT; of those in reach the only one with headers


def _run(*command, check=True, timeout=300, **environment):
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def copied(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "elsewhere")


def _as_ppm(photo, target):
    picture = cv2.imread(str(photo))[:, :, ::-1]
    height, width = picture.shape[:2]
    target.write_bytes(f"P6 {width} {height} 255\n".encode() + np.ascontiguousarray(picture).tobytes())
    return target


@pytest.fixture(scope="module")
def onnxruntime_home(tmp_path_factory):
    """A folder with the headers and the library of ONNX Runtime: ``ONNXRUNTIME_HOME``, or from a package for Unity."""
    if "ONNXRUNTIME_HOME" in os.environ:
        return Path(os.environ["ONNXRUNTIME_HOME"])
    home = tmp_path_factory.mktemp("onnxruntime")
    done = subprocess.run([tool("npm"), "pack", PACKAGE], cwd=home, capture_output=True, timeout=300, check=False)
    if done.returncode:
        cannot_run("ONNX Runtime for C++ cannot be had: set ONNXRUNTIME_HOME")
    parts = ["package/Plugins/Linux/x64", "package/Plugins/iOS~/*/ios-arm64/*/Headers"]
    _run("tar", "--extract", "--wildcards", "--file", next(home.glob("*.tgz")), "--directory", home, *parts)
    (home / "include").symlink_to(next(home.rglob("onnxruntime_cxx_api.h")).parent)
    (home / "lib").symlink_to(home / "package/Plugins/Linux/x64")
    (home / "lib/libonnxruntime.so.1").symlink_to("libonnxruntime.so")
    return home


@pytest.mark.slow
def test_cpp(copied, datasets, onnxruntime_home, tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("CMake is not installed; .ci/run leaves it out, as it runs no slow test of bundles")
    build = tmp_path / "build"
    _run("cmake", "-S", copied / "cpp", "-B", build, f"-DONNXRUNTIME={onnxruntime_home}")
    _run("cmake", "--build", build)
    program, library = build / "onnx_inference", {"LD_LIBRARY_PATH": str(onnxruntime_home / "lib")}
    done = _run(program, "--self-check", **library)
    assert done.stdout.count("ok ") == 4
    confidence = json.loads((copied / "spec.json").read_text(encoding="utf-8"))["golden"]["nms"]["confidence"]
    photo = sorted((datasets / "bccd/images/test").glob("*.jpg"))[0]
    wanted = Predictor(copied / "plain.onnx", confidence=confidence)(photo)[0]
    done = _run(program, "--image", _as_ppm(photo, tmp_path / "p.ppm"), "--conf-thresh", repr(confidence), **library)
    assert f"Found {len(wanted)} detections" in done.stdout
    boxes = [json.loads(line[line.rindex("[") :]) for line in done.stdout.splitlines()[1:]]
    np.testing.assert_allclose(boxes, wanted.boxes, atol=0.06)
    values = np.fromfile(copied / "golden/output.f32", "<f4")
    values[0] += 0.1
    values.tofile(copied / "golden/output.f32")
    done = _run(program, "--self-check", check=False, **library)
    assert done.returncode == 1
    assert "FAIL input to output, boxes" in done.stdout
    done = _run(program, "--image", "nowhere.ppm", check=False, **library)
    assert (done.returncode, done.stderr) == (1, "Error: nowhere.ppm cannot be opened\n")
    assert "--colour is no option" in _run(program, "--colour", check=False, **library).stderr


@pytest.fixture
def csharp(copied):
    """The program, compiled with Mono against a stand-in for ONNX Runtime that returns the golden output."""
    sources = [copied / "csharp" / name for name in ("Detector.cs", "Files.cs", "OnnxInference.cs")]
    program = copied / "csharp/OnnxInference.exe"
    libraries = ["-r:System.Runtime.Serialization", "-r:System.Core"]
    command = [tool("mcs"), "-nologo", "-warnaserror", "-nowarn:649", *libraries, f"-out:{program}"]
    _run(*command, *sources, HARNESS / "OnnxRuntimeStub.cs")
    tool("mono")
    shutil.copy(copied / "golden/output.f32", copied / "csharp/stub.f32")

    def run(*arguments):
        done = _run("mono", program, *arguments, check=False, STUB_OUTPUT=str(copied / "csharp/stub.f32"))
        return done.returncode, done.stdout, done.stderr

    return run


def test_csharp_around_a_stand_in(csharp, copied):
    code, out, err = csharp("--self-check")
    assert (code, err) == (0, ""), out
    assert out.count("ok ") == 4
    code, out, _ = csharp("--image", copied / "golden/picture.ppm", "--conf-thresh", "0.0001")
    assert code == 0
    assert "  [0] Class " in out
    for name, step in (("output", "input to output, scores"), ("input", "picture to input")):
        path = copied / f"golden/{name}.f32"
        before = path.read_bytes()
        values = np.frombuffer(before, "<f4").copy()
        values[-1] += 0.1
        values.tofile(path)
        code, out, _ = csharp("--self-check")
        assert code == 1
        assert f"FAIL {step}" in out
        path.write_bytes(before)
    assert csharp("--image", "nowhere.ppm")[0] == 1
    code, _, err = csharp("--colour")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "--colour is no option" in err
