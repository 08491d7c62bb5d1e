"""What is inside an exported ONNX file, and how it runs."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
import pytest

from yolo.core.errors import UsageError, YoloError
from yolo.export import ExportOptions, export_model
from yolo.export.runtimes.onnx import OnnxRuntime
from yolo.export.samples import draw_samples

NAMES = ["circle", "square", "Dreieck ▲"]
ANCHORS = 12 * 8 + 6 * 4 + 3 * 2


@pytest.fixture(scope="module")
def model(plain):
    return onnx.load(plain.path)


def _shape(value):
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def test_input_and_output_are_the_documented_ones(model):
    (image,), (output,) = model.graph.input, model.graph.output
    assert (image.name, _shape(image)) == ("images", [1, 3, 64, 96])
    assert (output.name, _shape(output)) == ("output0", [1, 4 + 3, ANCHORS])
    assert image.type.tensor_type.elem_type == output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_anchors_are_constants(model):
    # Ranges and the like would mean that anchors are worked out from shapes while the network runs.
    operators = Counter(node.op_type for node in model.graph.node)
    assert not {"Range", "NonZero", "Loop", "If", "Expand"} & set(operators)


def test_norms_are_folded_and_the_auxiliary_branch_is_gone(model, network):
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["BatchNormalization"] == 0
    numbers = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert numbers < 0.8 * sum(parameter.numel() for parameter in network.parameters())


def test_opset_is_read_back(model, plain):
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert plain.manifest["settings"]["opset"] == 17


def test_one_file_without_external_data(model, plain):
    assert {path.name for path in plain.path.parent.iterdir()} == {"plain.onnx", "plain.onnx.manifest.json"}
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)


def test_metadata_holds_classes_and_preprocessing(model, plain):
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["class_names"]) == NAMES
    assert json.loads(properties["image_size"]) == [96, 64]
    assert json.loads(properties["strides"]) == [8, 16, 32]
    preprocessing = json.loads(properties["preprocessing"])
    assert preprocessing["color"] == "RGB"
    assert preprocessing["divide_by"] == 255
    assert preprocessing["letterbox"]["fill"] == [114, 114, 114]
    assert properties["architecture"] == "v9-t"
    assert properties["checkpoint_sha256"] == plain.manifest["checkpoint"]["sha256"]
    assert model.producer_name == "yolo-export"


def test_boxes_are_pixels_of_a_canvas_that_is_not_square(plain):
    # Boxes lie around their anchors: centres of cells, by stride, then row by row.
    output = OnnxRuntime(plain.path).predict(draw_samples((96, 64))[0].image[None])[0]
    x, y = np.meshgrid((np.arange(12) + 0.5) * 8, (np.arange(8) + 0.5) * 8)
    boxes = output[:4, : 12 * 8]
    assert (np.abs(boxes[0] - x.ravel()) <= boxes[2] / 2 + 1e-3).all()
    assert (np.abs(boxes[1] - y.ravel()) <= boxes[3] / 2 + 1e-3).all()
    assert (output[4:] >= 0).all() and (output[4:] <= 1).all()


@pytest.mark.parametrize("opset", [10, 21])
def test_an_opset_that_cannot_be_written(checkpoint, tmp_path, opset):
    with pytest.raises(UsageError, match=rf"--opset {opset} cannot be written; use 11 to 20"):
        export_model(checkpoint, output=tmp_path / "x.onnx", options=ExportOptions(opset=opset))
    assert list(tmp_path.iterdir()) == []


def test_the_threads_of_a_runtime_rest_between_two_pictures(plain):
    """Or they keep the cores from what reads the next one, and a server's machine busy for nothing."""
    options = OnnxRuntime(plain.path)._session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_runtime_refuses_images_of_another_shape(plain):
    runtime = OnnxRuntime(plain.path)
    for shape in [(1, 3, 96, 64), (3, 64, 96), (0, 3, 64, 96), (1, 64, 96, 3)]:
        with pytest.raises(YoloError, match=r"takes images \[batch, 3, 64, 96\], not"):
            runtime.predict(np.zeros(shape, np.float32))


def test_runtime_refuses_what_is_no_detector(tmp_path):
    with pytest.raises(YoloError, match="does not exist"):
        OnnxRuntime(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no protobuf at all")
    with pytest.raises(YoloError, match="cannot be loaded by onnxruntime"):
        OnnxRuntime(tmp_path / "text.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 2])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 2])
    graph = onnx.helper.make_graph([node], "g", [value], [result])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "other.onnx")
    with pytest.raises(YoloError, match="is no detector that can be run here"):
        OnnxRuntime(tmp_path / "other.onnx")


def test_a_foreign_file_has_numbers_for_names(model, tmp_path):
    foreign = onnx.ModelProto()
    foreign.CopyFrom(model)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    runtime = OnnxRuntime(tmp_path / "foreign.onnx")
    assert runtime.class_names == ("0", "1", "2")
    assert runtime.image_size == (96, 64)


def test_a_batch_of_a_fixed_size_is_filled_up(tmp_path):
    """The file doubles images of batches of two; what was filled up is not handed out."""
    shapes = {"images": [2, 3, 2, 4], "output0": [2, 6, 4]}
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    kind = onnx.TensorProto.INT64
    constants = [onnx.helper.make_tensor("shape", kind, [3], shapes["output0"])]
    nodes = [
        onnx.helper.make_node("Add", ["images", "images"], ["doubled"]),
        onnx.helper.make_node("Reshape", ["doubled", "shape"], ["output0"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "two.onnx")
    runtime = OnnxRuntime(tmp_path / "two.onnx", threads=1)
    assert not runtime.dynamic_batch and runtime.threads == 1
    for count in (1, 2, 3):
        images = np.random.default_rng(count).random((count, 3, 2, 4), np.float32)
        assert np.array_equal(runtime.predict(images), 2 * images.reshape(count, 6, 4))


def test_the_number_of_parameters_is_that_of_the_layers(plain, network):
    from yolo.core.models.counts import count
    from yolo.core.models.fuse import fuse

    # The file has one DFL constant of 16 numbers for three heads, and anchors that no layer of the network has.
    deployed = count(fuse(network), image_size=(96, 64)).parameters
    assert abs(OnnxRuntime(plain.path).parameters - deployed) <= 3 * 16
