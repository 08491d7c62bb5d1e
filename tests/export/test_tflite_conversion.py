"""Real conversions with TensorFlow, in the environment that is made for it: minutes, and a network the first time."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs yolo-export[onnx]")
pytest.importorskip("ai_edge_litert", reason="needs yolo-export[litert]")

from yolo.core.engine import open_engine
from yolo.core.errors import YoloError
from yolo.export import ExportOptions, export_model
from yolo.export.backends.tflite import METADATA_FILE
from yolo.export.runtimes.litert import LiteRtRuntime
from yolo.export.runtimes.saved_model import SavedModelRuntime
from yolo.export.samples import draw_samples
from yolo.export.testing import BackendContract
from yolo.export.verify import predict_reference

pytestmark = pytest.mark.slow


class TestTflite(BackendContract):
    backend = "tflite"

    def test_the_delegate_takes_every_node(self, exported):
        plan = exported.manifest["settings"]["xnnpack"]
        assert plan["left"] == [] and plan["partitions"] == 1
        assert plan["delegated"] == plan["nodes"] > 500

    def test_the_input_is_nhwc_and_both_ends_have_their_names(self, exported):
        tensors = exported.manifest["settings"]["tensors"]
        assert tensors["input"] == {"name": "images", "shape": [1, 64, 96, 3], "dtype": "float32", "layout": "NHWC"}
        assert tensors["output"] == {"name": "output0", "shape": [1, 7, 126], "dtype": "float32"}

    def test_the_description_is_in_the_file(self, exported):
        with zipfile.ZipFile(exported.path) as archive:
            told = json.loads(archive.read(METADATA_FILE))
        assert told["class_names"] == exported.manifest["class_names"]
        assert told["preprocessing"]["layout"] == "NHWC"


class TestTfliteWithoutRewrites(BackendContract):
    backend = "tflite"
    options = ExportOptions(xnnpack_optimize=False)

    def test_some_nodes_are_left(self, exported):
        assert "RESIZE_NEAREST_NEIGHBOR" in exported.manifest["settings"]["xnnpack"]["left"]


class TestSavedModel(BackendContract):
    backend = "saved_model"

    @pytest.fixture
    def runtime(self, exported):
        return SavedModelRuntime(exported.path)

    def test_it_goes_to_another_place_and_still_knows_its_classes(self, exported, tmp_path):
        moved = tmp_path / "served" / "saved_model"
        shutil.copytree(exported.path, moved)
        engine = open_engine(moved)
        assert engine.class_names == tuple(exported.manifest["class_names"])

    def test_a_damaged_folder_is_told_in_a_line(self, exported, tmp_path):
        damaged = tmp_path / "saved_model"
        shutil.copytree(exported.path, damaged)
        (damaged / "saved_model.pb").write_bytes(b"nothing")
        with pytest.raises(YoloError, match="cannot be loaded") as raised:
            SavedModelRuntime(damaged)
        assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def convert(checkpoint, synthetic_data, tmp_path_factory):
    """Export the random checkpoint without the gate, which integers in a network that was not trained do not pass."""
    made = {}

    def run(**options):
        key = tuple(sorted(options.items()))
        if key not in made:
            if options["quantization"] == "int8":
                options |= {"calibration_images": str(synthetic_data), "num_calibration": 12}
            folder = tmp_path_factory.mktemp("exported")
            made[key] = export_model(
                checkpoint,
                format="tflite",
                output=folder / "model.tflite",
                options=ExportOptions(verify=False, **options),
            )
        return made[key]

    return run


def _outputs(path: Path) -> np.ndarray:
    return LiteRtRuntime(path, threads=1).predict(np.stack([sample.image for sample in draw_samples((96, 64))]))


def test_float16_weights_halve_the_file(convert, network):
    result = convert(quantization="fp16")
    assert result.manifest["settings"]["precision"] == "float16"
    assert result.manifest["settings"]["xnnpack"]["left"] == []
    assert result.path.stat().st_size < 5e6
    images = np.stack([sample.image for sample in draw_samples((96, 64))])
    assert np.median(np.abs(_outputs(result.path) - predict_reference(network, images))[:, :4]) < 0.5


def test_int8_with_a_float_end(convert):
    result = convert(quantization="int8")
    settings = result.manifest["settings"]
    assert settings["precision"] == "int8"
    assert settings["tensors"]["output"]["dtype"] == "float32"
    assert settings["xnnpack"]["left"] == []
    assert result.path.stat().st_size < 3e6
    assert len(settings["layer_errors"]) > 100
    assert all(name.startswith("network.") for name, _ in settings["layer_errors"])


def test_int8_in_and_out(convert):
    result = convert(quantization="int8", int8_io=True)
    tensors = result.manifest["settings"]["tensors"]
    assert tensors["input"]["dtype"] == "int8" and tensors["input"]["scale"] == pytest.approx(1 / 255, rel=0.02)
    assert {tensors["output"][name]["dtype"] for name in ("logits", "scores")} == {"int8"}
    assert tensors["output"]["bins"] == 16
    interpreter = LiteRtRuntime(result.path)._interpreter
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    nodes = [node for node in interpreter._get_ops_details() if node["op_name"] != "DELEGATE"]
    assert {types[index] for node in nodes for index in node["outputs"]} == {np.int8}


def test_decoding_outside_of_the_file_is_that_inside(convert):
    """Both have the same integers before the decoding."""
    inside = _outputs(convert(quantization="int8").path)
    outside = _outputs(convert(quantization="int8", int8_io=True).path)
    difference = np.abs(inside - outside)
    assert np.median(difference[:, :4]) < 0.05 and np.median(difference[:, 4:]) < 0.005


def test_layers_are_kept_in_float(convert):
    result = convert(quantization="int8", keep_float=("*.heads.*",))
    settings = result.manifest["settings"]
    assert settings["float_tensors"] > convert(quantization="int8").manifest["settings"]["float_tensors"] + 18
    with pytest.raises(YoloError, match=r"--keep-float 'nothing' matches no layer; .*'network"):
        convert(quantization="int8", keep_float=("nothing",))


def test_nothing_stays_behind_after_a_failure(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONVERTER_TIMEOUT", "1")
    with pytest.raises(YoloError, match="did not finish in 1 seconds"):
        export_model(checkpoint, format="tflite", output=tmp_path / "exports" / "a.tflite")
    assert list(Path(tmp_path, "exports").iterdir()) == []
