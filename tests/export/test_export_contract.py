"""The conformance kit, on the backend that ships, in its plain form and with every option."""

from __future__ import annotations

import numpy as np
import pytest

from yolo.core.testing import PluginConformance
from yolo.export import ExportOptions
from yolo.export.samples import draw_samples
from yolo.export.testing import BackendContract
from yolo.export.verify import predict_reference


class TestPlugin(PluginConformance):
    @pytest.fixture
    def plugin(self):
        return "yolo.export.plugin"


class TestOnnx(BackendContract):
    backend = "onnx"


class TestOnnxWithEverything(BackendContract):
    backend = "onnx"
    options = ExportOptions(opset=13, simplify=True, dynamic_batch=True)

    def test_simplify_leaves_fewer_nodes(self, exported, plain):
        assert exported.manifest["settings"]["nodes"] < plain.manifest["settings"]["nodes"]

    def test_settings(self, exported):
        settings = exported.manifest["settings"]
        assert (settings["opset"], settings["simplified"], settings["dynamic_batch"]) == (13, True, True)

    def test_only_the_batch_is_dynamic(self, exported):
        onnx = pytest.importorskip("onnx")
        graph = onnx.load(exported.path).graph
        for value, sides in ((graph.input[0], [3, 64, 96]), (graph.output[0], [4 + 3, 96 + 24 + 6])):
            batch, *others = value.type.tensor_type.shape.dim
            assert batch.dim_param == "batch"
            assert [side.dim_value for side in others] == sides

    @pytest.mark.parametrize("batch", [1, 3])
    def test_any_batch(self, runtime, network, batch):
        images = np.stack([sample.image for sample in draw_samples((96, 64), seed=3)[:batch]])
        assert runtime.dynamic_batch
        found, expected = runtime.predict(images), predict_reference(network, images)
        assert found.shape == (batch, 7, 96 + 24 + 6)
        np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=1e-3, rtol=0)
        np.testing.assert_allclose(found[:, 4:], expected[:, 4:], atol=1e-5, rtol=0)
