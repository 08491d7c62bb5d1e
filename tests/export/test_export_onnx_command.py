"""`yolo export` as a user meets it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo.cli.main import main
from yolo.core.plugins import ExportBackendSpec, registry
from yolo.core.weights.bundle import read_checkpoint
from yolo.export import ExportOptions

ROOT = Path(__file__).parents[2]


def _run(capsys, *args):
    capsys.readouterr()
    code = main(["export", *map(str, args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_it_writes_beside_the_checkpoint(checkpoint, tmp_path, capsys, fake_backend):
    fake_backend()
    copy = shutil.copy(checkpoint, tmp_path / "last.ckpt")
    code, out, err = _run(capsys, "--checkpoint", copy)
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "last.onnx", "last.onnx.manifest.json"}
    assert re.search(r"boxes +\S+ px +0\.001 px", out)
    assert f"Wrote {tmp_path / 'last.onnx'} (7." in out


def test_a_folder_is_filled_and_made(checkpoint, tmp_path, capsys, fake_backend):
    fake_backend()
    code, _, err = _run(capsys, "-c", checkpoint, "-o", f"{tmp_path}/new/")
    assert code == 0, err
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"best.onnx", "best.onnx.manifest.json"}


def test_all_options(checkpoint, tmp_path, capsys, fake_backend):
    requests = fake_backend()
    target = tmp_path / "all.onnx"
    options = ["--format", "onnx", "--size=96x64", "--opset", "12", "--simplify", "--dynamic-batch"]
    code, _, err = _run(capsys, "-c", checkpoint, "--output", target, *options)
    assert code == 0, err
    assert requests[0].options == ExportOptions(opset=12, simplify=True, dynamic_batch=True)
    assert requests[0].metadata.image_size == (96, 64)
    assert json.loads((tmp_path / "all.onnx.manifest.json").read_text(encoding="utf-8"))["format"] == "onnx"


def test_plain_weights(checkpoint, tmp_path, capsys, fake_backend):
    fake_backend()
    torch.save(read_checkpoint(checkpoint).state_dict, tmp_path / "weights.pt")
    code, _, err = _run(capsys, "-c", tmp_path / "weights.pt", "--model", "v9-t", "--size", "96x64")
    assert code == 0, err
    assert json.loads((tmp_path / "weights.onnx.manifest.json").read_text())["class_names"] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--format", "onyx"], 2, "Did you mean 'onnx'"),
        (["--size", "100"], 2, "image size 100 is not a multiple of 32"),
        (["--size", "big"], 2, "image size must be one or two positive whole numbers"),
        (["--opset", "99"], 2, "--opset 99 cannot be written; use 11 to 20"),
        (["--output", "model.tflite"], 2, "'model.tflite' must end with .onnx"),
        (["--checkpoint", "nowhere.ckpt"], 1, "'nowhere.ckpt' does not exist"),
    ],
)
def test_mistakes_are_one_line(checkpoint, tmp_path, capsys, monkeypatch, args, code, message):
    monkeypatch.chdir(tmp_path)
    shutil.copy(checkpoint, tmp_path / "best.ckpt")
    found, _, err = _run(capsys, "--checkpoint", "best.ckpt", *args)
    errors = [line for line in err.splitlines() if line.startswith("Error")]
    assert (found, len(errors)) == (code, 1)
    assert message.lower() in errors[0].lower()
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_missing_extra_says_what_to_install(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, err = _run(capsys, "--checkpoint", checkpoint, "--output", tmp_path / "m.onnx")
    assert code == 1
    assert "needs onnx, not installed here: pip install 'yolo-export[onnx]'" in err


def double_the_first_weights(model):
    tensor = model.graph.initializer[0]
    tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * 2).tobytes()


def test_a_failing_gate_ends_with_one(checkpoint, tmp_path, capsys, fake_backend):
    fake_backend(double_the_first_weights)
    code, _, err = _run(capsys, "-c", checkpoint, "-o", tmp_path / "m.onnx")
    assert code == 1
    assert "does not predict what the checkpoint predicts" in err
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_means_nothing_for_a_format(checkpoint, tmp_path, capsys, monkeypatch):
    backend = registry("export_backends").load("onnx")
    monkeypatch.setattr(backend, "options", frozenset({"opset"}))
    code, _, err = _run(capsys, "-c", checkpoint, "-o", tmp_path / "m.onnx", "--dynamic-batch")
    assert code == 2
    assert "--dynamic-batch means nothing for the format 'onnx'" in err


@pytest.mark.parametrize("module", ["yolo.export", "yolo.export.plugin", "yolo.export.commands.export"])
def test_importing_is_light(module):
    heavy = "{'torch', 'onnx', 'onnxruntime', 'onnxslim', 'numpy', 'cv2'}"
    code = f"import sys, {module}; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_backend_is_registered_completely():
    for spec in registry("export_backends"):
        assert isinstance(spec, ExportBackendSpec)
        assert spec.runtime
        assert registry("export_backends").load_runtime(spec.name)


def _blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", ["packages/yolo-export/README.md", "docs/how-to/export.md"])
def test_what_the_pages_show_works(page, checkpoint, tmp_path, monkeypatch, capsys, datasets, fake_backend):
    if "README" not in page:  # one of the two for real
        fake_backend()
    shutil.copy(checkpoint, tmp_path / "best.ckpt")
    shutil.copy(next((datasets / "bccd/images/test").glob("*.jpg")), tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in _blocks(page, "bash") for line in block.splitlines() if line.startswith("yolo export")]
    assert lines
    for line in lines:
        assert main(line.split("#")[0].split()[1:]) == 0, line
    for block in _blocks(page, "python"):
        exec(compile(block, page, "exec"), {})
    assert capsys.readouterr().out
