"""A file that is wrong says where."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yolo.export import ExportOptions, export_model
from yolo.export.backends.onnx import OnnxBackend
from yolo.export.graph.deploy import DeployModule
from yolo.export.graph.divergence import first_divergence
from yolo.export.samples import draw_samples
from yolo.export.verify import ParityError

SIZE = (96, 64)


@pytest.fixture(scope="module")
def module(network):
    return DeployModule(network, SIZE)


def _scaled(path, target, part):
    model = onnx.load(path)
    tensor = next(entry for entry in model.graph.initializer if entry.name == part)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.02), part))
    onnx.save(model, target)
    return target


def _convolutions(path):
    return [node.input[1] for node in onnx.load(path).graph.node if node.op_type == "Conv"]


def test_a_right_file_has_none(plain, module):
    assert first_divergence(plain.path, module, draw_samples(SIZE)[0].image, allowed=1e-3) is None


@pytest.mark.parametrize("position", [0, 40, 90])
def test_the_first_wrong_layer_is_named(plain, module, tmp_path, position):
    weights = _convolutions(plain.path)[position]
    wrong = _scaled(plain.path, tmp_path / "wrong.onnx", weights)
    found = first_divergence(wrong, module, draw_samples(SIZE)[0].image, allowed=1e-3)
    assert re.search(rf"'{re.escape(weights.removesuffix('.weight'))}' \(off by 0\.0[12]\d* of its size\)", found)


def test_weights_keep_their_names_in_all_forms(checkpoint, plain, tmp_path):
    options = ExportOptions(simplify=True, half=True)
    result = export_model(checkpoint, output=tmp_path / "half.onnx", options=options)
    assert sorted(_convolutions(result.path)) == sorted(_convolutions(plain.path))


@pytest.mark.parametrize("half", [False, True])
def test_the_command_tells_it(checkpoint, tmp_path, monkeypatch, half):
    write = OnnxBackend.write

    def spoil(self, request):
        facts = write(self, request)
        model = onnx.load(request.path)
        tensor = next(entry for entry in model.graph.initializer if entry.name.startswith("network.4."))
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 0, tensor.name))
        onnx.save(model, request.path)
        return facts

    monkeypatch.setattr(OnnxBackend, "write", spoil)
    with pytest.raises(
        ParityError, match=r"; the first layer with another result is 'network\.4\..*; the file was not kept"
    ):
        export_model(checkpoint, output=tmp_path / "wrong.onnx", options=ExportOptions(half=half))
    assert list(tmp_path.iterdir()) == []
