"""ONNX files in float16, for any size, and with suppression inside."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from yolo.core import Predictor
from yolo.core.errors import UsageError, YoloError
from yolo.export import ExportOptions, export_model
from yolo.export.matching import detect
from yolo.export.samples import draw_samples
from yolo.export.testing import BackendContract
from yolo.export.verify import predict_reference

FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


class TestHalf(BackendContract):
    backend = "onnx"
    options = ExportOptions(half=True, simplify=True, dynamic_batch=True)

    def test_ends_are_float32_and_weights_float16(self, exported, plain):
        graph = onnx.load(exported.path).graph
        assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {FLOAT}
        weights = [tensor for tensor in graph.initializer if tensor.name.endswith("conv.weight")]
        assert len(weights) > 50 and {tensor.data_type for tensor in weights} == {FLOAT16}
        assert exported.path.stat().st_size < 0.6 * plain.path.stat().st_size

    def test_it_is_less_exact_and_says_so(self, exported):
        settings, parity = exported.manifest["settings"], exported.manifest["parity"]
        assert settings["precision"] == "float16"
        assert parity["tolerances"]["everywhere"] is False
        assert 1e-3 < parity["largest"]["boxes"] <= 1

    def test_decoding_stays_float32(self, exported):
        """At 512 and beyond, float16 knows only every half pixel: centres must not be rounded to it."""
        boxes = exported.parity.boxes
        wide = export_model(
            exported_source(self),
            output=exported.path.parent.parent / "wide.onnx",
            image_size="768x64",
            options=self.options,
        )
        assert wide.parity.boxes < max(0.2, 3 * boxes)


def exported_source(case):
    from yolo.export.testing.backend import _EXPORTS

    return _EXPORTS[case.backend, case.options][0]


class TestAnySize(BackendContract):
    backend = "onnx"
    options = ExportOptions(dynamic_size=True, dynamic_batch=True, simplify=True)

    @pytest.mark.parametrize("size", [(96, 64), (32, 32), (64, 160)])
    def test_other_sizes(self, runtime, network, size):
        images = np.stack([sample.image for sample in draw_samples(size, seed=3)[:2]])
        found, expected = runtime.predict(images), predict_reference(network, images)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=2e-3, rtol=0)
        np.testing.assert_allclose(found[:, 4:], expected[:, 4:], atol=1e-5, rtol=0)

    def test_sizes_that_the_network_cannot_take(self, runtime):
        with pytest.raises(
            YoloError, match=r"height, width\] in multiples of 32, such as \[64, 96\], not \[1, 3, 50, 96\]"
        ):
            runtime.predict(np.zeros((1, 3, 50, 96), np.float32))

    def test_what_is_open(self, exported):
        graph = onnx.load(exported.path).graph
        shapes = [
            [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
            for value in (graph.input[0], graph.output[0])
        ]
        assert shapes == [["batch", 3, "height", "width"], ["batch", 7, "anchors"]]

    def test_a_predictor_may_choose(self, exported, source):
        picture = np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8)
        settings = {"confidence": 0.0, "max_detections": 5, "image_size": (160, 96)}
        (found,), (wanted,) = (
            Predictor(exported.path, **settings)(picture),
            Predictor(source, device="cpu", **settings)(picture),
        )
        assert np.abs(found.boxes - wanted.boxes).max() < 0.05
        with pytest.raises(UsageError, match="not a multiple of 32"):
            Predictor(exported.path, image_size=100)


class TestSuppression(BackendContract):
    backend = "onnx"
    options = ExportOptions(nms=True, half=True)

    def test_two_outputs(self, exported):
        graph = onnx.load(exported.path).graph
        assert [value.name for value in graph.output] == ["output0", "detections"]
        assert exported.manifest["output"]["nms"]["name"] == "detections"
        assert {value.type.tensor_type.elem_type for value in graph.output} == {FLOAT}

    def test_detections_are_those_of_predict(self, runtime):
        for sample in draw_samples((96, 64), seed=5):
            found, wanted = runtime.detect(sample.image[None]), detect(runtime.predict(sample.image[None])[0], 0.25)
            assert len(found) == len(wanted.scores)
            np.testing.assert_allclose(found[:, :4], wanted.boxes, atol=1e-3)
            np.testing.assert_allclose(found[:, 4], wanted.scores, atol=1e-6)
            assert found[:, 5].tolist() == wanted.labels.tolist()

    def test_some_pictures_have_several_and_some_have_more_than_one_class(self, runtime):
        found = [runtime.detect(sample.image[None]) for sample in draw_samples((96, 64), seed=5)]
        assert max(map(len, found)) > 3 and len({label for rows in found for label in rows[:, 5]}) > 1

    def test_nothing_is_an_empty_table(self, exported, tmp_path):
        from yolo.export.runtimes.onnx import OnnxRuntime

        model = onnx.load(exported.path)
        bound = next(tensor for tensor in model.graph.initializer if tensor.name == "nms_confidence")
        bound.CopyFrom(onnx.numpy_helper.from_array(np.array([1.0], np.float32), bound.name))
        onnx.save(model, tmp_path / "deaf.onnx")
        runtime = OnnxRuntime(tmp_path / "deaf.onnx")
        assert runtime.detect(draw_samples((96, 64))[0].image[None]).shape == (0, 6)

    def test_the_number_is_limited(self, exported, tmp_path):
        from yolo.export.runtimes.onnx import OnnxRuntime

        model = onnx.load(exported.path)
        for tensor in model.graph.initializer:
            if tensor.name == "nms_max_detections":
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([2], np.int64), tensor.name))
        onnx.save(model, tmp_path / "two.onnx")
        runtime = OnnxRuntime(tmp_path / "two.onnx")
        image = draw_samples((96, 64), seed=5)[0].image[None]
        rows = runtime.detect(image)
        assert len(rows) == 2 and rows[0, 4] >= rows[1, 4]
        assert rows[0, 4] == detect(runtime.predict(image)[0], 0.25).scores[0]
