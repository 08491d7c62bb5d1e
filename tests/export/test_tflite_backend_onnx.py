"""The TensorFlow Lite and SavedModel backends around a converter that only pretends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("ai_edge_litert", reason="needs yolo-export[litert]")

import tiny_tflite as tiny
from yolo.core.errors import UsageError
from yolo.core.letterbox import letterbox
from yolo.core.plugins import MissingRequirementError, registry
from yolo.export.backends import saved_model, tflite
from yolo.export.backends.base import ExportError, ExportOptions, ExportRequest
from yolo.export.calibration import choose_images
from yolo.export.graph.deploy import DeployModule
from yolo.export.metadata import Metadata
from yolo.export.runtimes.litert import LiteRtRuntime
from yolo.export.runtimes.saved_model import METADATA_PATH

SIZE = (96, 64)


@pytest.fixture(scope="module")
def deployed(network):
    return DeployModule(network, SIZE)


@pytest.fixture
def request_for(deployed, tmp_path):
    metadata = Metadata(
        class_names=("circle", "square", "Dreieck ▲"),
        image_size=SIZE,
        strides=(8, 16, 32),
        architecture="v9-t",
        checkpoint_sha256="0" * 64,
    )

    def make(name: str = "a.tflite", calibration=None, **options) -> ExportRequest:
        return ExportRequest(
            module=deployed,
            path=tmp_path / name,
            options=ExportOptions(**options),
            metadata=metadata,
            calibration=calibration,
        )

    return make


@pytest.fixture
def converted(monkeypatch):
    """Pretend to convert; returns what the converter was given: job, ONNX graph, calibration pictures."""
    seen = []

    def convert(job, *, python, folder, pictures=()):
        assert python == Path("/python")
        seen.append((job, onnx.load(job["onnx"]).graph, list(pictures)))
        output = Path(job["output"])
        if job["format"] == "saved_model":
            output.mkdir()
        elif job["int8_io"]:
            tiny.write_raw(output, integers=True)
        else:
            tiny.write_decoded(output)
        return {"versions": {"tensorflow": "2"}, "layer_errors": [["a", 0.01], ["b", 0.7]]}

    for module in (tflite, saved_model):
        monkeypatch.setattr(module, "converter_python", lambda: Path("/python"))
        monkeypatch.setattr(module, "convert", convert)
    return seen


@pytest.fixture
def photos(datasets):
    return choose_images(datasets / "bccd" / "images" / "val", count=3, seed=1)


def test_a_float_file(converted, request_for, tmp_path):
    facts = tflite.TfliteBackend().write(request_for(quantization="fp16"))
    job, graph, pictures = converted[0]
    assert (job["quantization"], job["int8_io"], pictures) == ("fp16", False, [])
    assert [value.name for value in graph.output] == ["output0"]
    assert facts["precision"] == "float16"
    assert facts["rewrites"]["upsample_as_depth_to_space"] == 2
    assert facts["xnnpack"]["nodes"] == 3
    assert facts["versions"].keys() == {"tensorflow", "torch", "ai-edge-litert"}
    assert facts["tensors"]["input"]["layout"] == "NHWC"
    assert LiteRtRuntime(tmp_path / "a.tflite").class_names == ("circle", "square", "Dreieck ▲")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tflite"]


def test_rewrites_can_be_left_out(converted, request_for):
    facts = tflite.TfliteBackend().write(request_for(xnnpack_optimize=False))
    assert facts["rewrites"] == {}
    assert "Resize" in {node.op_type for node in converted[0][1].node}


def test_int8_gets_letterboxed_pictures(converted, request_for, photos):
    backend = tflite.TfliteBackend()
    request = request_for(quantization="int8", calibration=photos, keep_float=("head*",))
    assert backend.write(request)["precision"] == "int8"
    job, _, pictures = converted[0]
    assert job["keep_float"] == ["head*"]
    assert job["calibration"] == [3, 64, 96, 3]
    for path, picture in zip(photos.paths, pictures, strict=True):
        np.testing.assert_array_equal(picture, letterbox(photos.read(path), SIZE)[0])
    assert backend.find_divergence(request, np.zeros((3, 64, 96), np.float32)) == (
        "the first layer that is off by half of its size is 'b'; try --keep-float"
    )


def test_integers_only_put_out_distributions(converted, request_for, photos, tmp_path):
    facts = tflite.TfliteBackend().write(request_for(quantization="int8", int8_io=True, calibration=photos))
    _, graph, _ = converted[0]
    assert [value.name for value in graph.output] == ["logits", "scores"]
    assert facts["int8_io"] is True and facts["tensors"]["output"]["form"] == "distributions"
    told = LiteRtRuntime(tmp_path / "a.tflite").metadata
    assert told["output"]["bins"] == 16 and told["strides"] == [8, 16, 32]
    assert told["preprocessing"]["dtype"] == "int8"


def test_int8_without_pictures(converted, request_for):
    with pytest.raises(ExportError, match="--calibration-images"):
        tflite.TfliteBackend().write(request_for(quantization="int8"))


def test_options_that_exclude_each_other():
    with pytest.raises(UsageError, match="leave --int8-io out"):
        tflite.TfliteBackend().check(ExportOptions(quantization="int8", int8_io=True, keep_float=("a",)))


def test_a_saved_model_is_a_folder_that_describes_itself(converted, request_for, tmp_path):
    facts = saved_model.SavedModelBackend().write(request_for("b_saved_model"))
    job, graph, _ = converted[0]
    assert job["format"] == "saved_model" and [value.name for value in graph.output] == ["output0"]
    told = json.loads((tmp_path / "b_saved_model" / METADATA_PATH).read_text(encoding="utf-8"))
    assert told["class_names"][2] == "Dreieck ▲" and told["preprocessing"]["layout"] == "NHWC"
    assert facts["tensors"]["input"]["shape"] == [1, 64, 96, 3]


@pytest.mark.parametrize("name", ["tflite", "saved_model"])
def test_without_onnx_it_is_said_what_to_install(monkeypatch, name):
    backend = registry("export_backends").load(name)
    monkeypatch.setattr("yolo.export.converter.source.find_spec", lambda module: None)
    with pytest.raises(
        MissingRequirementError, match=rf"'{name}' needs onnx.*pip install 'yolo-export\[onnx,litert\]'"
    ):
        backend()
