"""`yolo export` as a user meets it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo.cli.main import main
from yolo.core.errors import YoloError
from yolo.core.plugins import ExportBackendSpec, MissingRequirementError, registry
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
    assert re.search(r"picture 200x200 +\d+ +\d+ +\S+ +\S+ +\S+ +\S+\n", out)
    assert re.search(r"usually allowed +all +0\.001 +1e-05 +0\.001 +1e-05", out)
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
        (["--nms", "--opset", "11"], 2, "--nms needs --opset 12 or later, not 11"),
        (["--nms", "--dynamic-batch"], 2, "--nms makes files for one image per call: leave --dynamic-batch out"),
        (["--quantization", "fp16"], 2, "--quantization means nothing for the format 'onnx'; --half makes float16"),
        (["--quantization", "fp8"], 2, "'fp8' is not one of"),
        (["--quantization", "int8"], 2, "--quantization int8 needs --calibration-images: a folder of pictures"),
        (["--int8-io"], 2, "--int8-io is for int8 files: add --quantization int8"),
        (["--keep-float", "conv*"], 2, "--keep-float is for int8 files: add --quantization int8"),
        (["--no-xnnpack-optimize"], 2, "--no-xnnpack-optimize means nothing for the format 'onnx'"),
        (["--num-calibration", "5"], 2, "--num-calibration needs --calibration-images"),
        (["--calibration-seed", "5"], 2, "--calibration-seed needs --calibration-images"),
        (["--calibration-images", ".", "--num-calibration", "0"], 2, "--num-calibration is 0: it must be 1 or more"),
        (["--calibration-images", "nowhere"], 2, "--calibration-images nowhere does not exist"),
        (["--calibration-images", "."], 2, "there are no pictures in this folder"),
        (["--device", "gpu"], 2, "unknown device 'gpu'"),
        (["--format", "torchscript", "--half"], 2, "--half means nothing for the format 'torchscript'"),
        (["--format", "torchscript", "--nms"], 2, "--nms means nothing for the format 'torchscript'"),
        (["--format", "torch", "--activation", "hard-swish"], 2, "--activation means nothing for the format 'torch'"),
        (
            ["--format", "torch,torchscript", "--opset", "12"],
            2,
            "--opset means nothing for the formats torch, torchscript",
        ),
        (["--format", "onnx,torch", "-o", "model.onnx"], 2, "--output 'model.onnx' must be a folder, as several"),
        (["--format", ","], 2, "--format names no format"),
        (["--format", "torchscript", "--bundle"], 2, "--bundle"),
        (["--output", "m.tflite"], 2, "must end with .onnx, or be a folder; for such a file add --format tflite"),
        (["--output", "model.engine"], 2, "'model.engine' must end with .onnx, or be a folder"),
        (["--model", "v9-c"], 2, "'best.ckpt' says itself that it is v9-t, not v9-c: leave --model out"),
        (["--model", "v9-x"], 2, "v9-x"),
        (["--checkpoint", "old.onnx"], 2, "'old.onnx' is exported already, as onnx; give the checkpoint"),
        (["--checkpoint", "."], 1, "'.' is a folder, not a file of weights"),
        (["--checkpoint", "nowhere.ckpt"], 1, "'nowhere.ckpt' does not exist"),
    ],
)
def test_mistakes_are_one_line(checkpoint, tmp_path, capsys, monkeypatch, args, code, message):
    monkeypatch.chdir(tmp_path)
    shutil.copy(checkpoint, tmp_path / "best.ckpt")
    (tmp_path / "old.onnx").touch()
    found, _, err = _run(capsys, "--checkpoint", "best.ckpt", *args)
    errors = [line for line in err.splitlines() if line.startswith("Error")]
    assert (found, len(errors)) == (code, 1)
    assert message.lower() in errors[0].lower()
    assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "old.onnx"}


def test_a_missing_extra_says_what_to_install(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, err = _run(capsys, "--checkpoint", checkpoint, "--output", tmp_path / "m.onnx")
    assert code == 1
    assert "needs onnx, not installed here: pip install 'yolo-export[onnx]'" in err


def test_several_formats_in_one_call(checkpoint, tmp_path, capsys, fake_backend):
    requests = fake_backend()
    options = ["--format", "onnx,torch", "--format", "torchscript", "--opset", "12"]
    code, out, err = _run(capsys, "-c", checkpoint, "-o", tmp_path / "new", *options, "--no-verify")
    assert code == 0, err
    names = {"best.onnx", "best.state.pt", "best.torchscript"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == names | {f"{name}.manifest.json" for name in names}
    assert requests[0].options.opset == 12  # which only one of them knows
    assert [line.split()[-2:] for line in err.splitlines() if line.startswith("Exporting")] == [
        [name, "..."] for name in ("onnx", "torch", "torchscript")
    ]
    assert out.count("Wrote ") == 6


def test_nothing_is_written_when_one_of_several_formats_is_wrong(checkpoint, tmp_path, capsys, fake_backend):
    fake_backend()
    code, _, err = _run(
        capsys, "-c", checkpoint, "-o", tmp_path / "new", "-f", "onnx,torch", "--activation", "hard-swish"
    )
    assert code == 2 and "'torch'" in err
    assert not (tmp_path / "new").exists()


def test_each_format_is_told_when_it_is_done(checkpoint, tmp_path, capsys, fake_backend):
    from yolo.export.backends.torch_state import TorchStateBackend

    def fail(self, request):
        raise YoloError("no luck")

    fake_backend()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchStateBackend, "write", fail)
        code, out, err = _run(capsys, "-c", checkpoint, "-o", tmp_path, "-f", "onnx,torch")
    assert code == 1 and "no luck" in err
    assert f"Wrote {tmp_path / 'best.onnx'}" in out


def test_no_verify_says_so(checkpoint, tmp_path, capsys, fake_backend):
    fake_backend(double_the_first_weights)
    code, out, err = _run(capsys, "-c", checkpoint, "-o", tmp_path / "m.onnx", "--no-verify")
    assert code == 0, err
    assert "m.onnx was not compared with the checkpoint (--no-verify)" in err
    assert "Detections" not in out
    assert json.loads((tmp_path / "m.onnx.manifest.json").read_text())["parity"] == {"checked": False}


def test_pictures_of_a_folder_are_compared_on(checkpoint, tmp_path, capsys, fake_backend):
    import cv2

    fake_backend()
    (tmp_path / "real").mkdir()
    for index in range(12):
        picture = np.random.default_rng(index).integers(0, 255, (40, 60, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"real/{index}.png"), cv2.resize(picture[:4, :6], (60, 40)))
    options = ["--calibration-images", tmp_path / "real", "--num-calibration", 10, "--calibration-seed", 3]
    code, out, err = _run(capsys, "-c", checkpoint, "-o", tmp_path / "m.onnx", *options)
    assert code == 0, err
    record = json.loads((tmp_path / "m.onnx.manifest.json").read_text())
    assert record["calibration"] == {"source": "real", "images": 10, "available": 12, "seed": 3}
    assert len(record["parity"]["inputs"]) == 8
    assert "pictures of real" in out and re.search(r"\d+\.png +\d", out)


def test_out_of_memory_is_one_line(checkpoint, tmp_path, capsys, fake_backend):
    def fail(model):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 1 bytes")

    fake_backend(fail)
    code, _, err = _run(capsys, "-c", checkpoint, "-o", tmp_path / "m.onnx")
    assert code == 1
    assert "the memory does not suffice to export at 96x64: take a smaller --size" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_ended_export_leaves_nothing(checkpoint, tmp_path, capsys, fake_backend, number):
    before = signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore it, as nohup does
    try:
        fake_backend(lambda model: os.kill(os.getpid(), number))
        code, _, err = _run(capsys, "-c", checkpoint, "-o", tmp_path / "best.onnx")
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert code == 128 + number and f"Ended by {number.name}." in err
    assert list(tmp_path.iterdir()) == []


def test_hard_swish_is_warned_about(checkpoint, tmp_path, capsys, fake_backend):
    requests = fake_backend()
    code, _, err = _run(capsys, "-c", checkpoint, "-o", tmp_path / "m.onnx", "--activation", "hard-swish")
    assert "Warning: --activation hard-swish makes another function of the network" in err
    assert code == 1 and "does not predict" in err, "the fake file still has SiLU, which is not what is asked for"
    assert requests[0].options.activation == "hard-swish"


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
        try:
            assert registry("export_backends").load_runtime(spec.name)
        except MissingRequirementError as error:
            assert spec.requires and spec.extra and spec.extra in str(error)


def _blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", ["packages/yolo-export/README.md", "docs/how-to/export.md"])
def test_what_the_pages_show_works(page, checkpoint, tmp_path, monkeypatch, capsys, datasets, fake_backend):
    if "README" not in page:  # one of the two for real
        fake_backend()
    shutil.copy(checkpoint, tmp_path / "best.ckpt")
    shutil.copy(next((datasets / "bccd/images/test").glob("*.jpg")), tmp_path / "photo.jpg")
    (tmp_path / "pictures").mkdir()
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "pictures/photo.jpg")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in _blocks(page, "bash") for line in block.splitlines() if line.startswith("yolo export")]
    lines = [line for line in lines if "tflite" not in line]  # those need TensorFlow
    assert lines
    for line in lines:
        assert main(line.split("#")[0].split()[1:]) == 0, line
    for block in _blocks(page, "python"):
        exec(compile(block, page, "exec"), {})
    assert capsys.readouterr().out
