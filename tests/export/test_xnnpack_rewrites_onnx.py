"""Rewritten graphs give what the original gives, and have the nodes that XNNPACK takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from yolo.export.backends.base import ExportError
from yolo.export.converter.source import write_source
from yolo.export.graph.rewrites import find_raw, rewrite_for_xnnpack
from yolo.export.metadata import OUTPUT_NAME
from yolo.export.runtimes.distributions import decode_distributions
from yolo.export.samples import draw_samples

SIZE = (96, 64)
OPSETS = [13, 17]


def _traced(module: nn.Module, path, images: torch.Tensor, opset: int = 13) -> onnx.ModelProto:
    torch.onnx.export(
        module.eval(), (images,), str(path), dynamo=False, opset_version=opset, input_names=["images"],
        output_names=["output0"],
    )  # fmt: skip
    return onnx.load(path)


def _run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


def _kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


class Distribution(nn.Module):
    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("bins", torch.arange(bins, dtype=torch.float32).view(1, 1, -1, 1))

    def forward(self, images):
        logits = images.reshape(-1, 4, self.bins.numel(), 12).softmax(2)
        return (logits * self.bins).sum(2) * 2


class Pool(nn.Module):
    def __init__(self, **settings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, images):
        return F.avg_pool2d(images * 1.0, **self.settings) * 1.0


class Up(nn.Module):
    def __init__(self, **settings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, images):
        return F.interpolate(images * 1.0, **self.settings)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("module", "shape", "gone", "come", "tolerance"),
    [
        (Distribution(16), (1, 64, 12), "ReduceSum", "Conv", 1e-5),
        (Distribution(7), (1, 28, 12), "ReduceSum", "Conv", 1e-5),
        (Up(scale_factor=2, mode="nearest"), (1, 5, 6, 7), "Resize", "DepthToSpace", 0),
        (Pool(kernel_size=2, stride=1), (1, 5, 6, 7), "AveragePool", "Conv", 1e-6),
        (Pool(kernel_size=(3, 2), stride=(2, 1)), (1, 5, 9, 8), "AveragePool", "Conv", 1e-6),
    ],
    ids=["16 bins", "7 bins", "upsample", "pool", "pool, not square"],
)
def test_a_rewrite_keeps_the_values(tmp_path, opset, module, shape, gone, come, tolerance):
    images = np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)
    model = _traced(module, tmp_path / "a.onnx", torch.from_numpy(images), opset)
    before = _run(model, images)[0]
    assert _kinds(model)[gone] == 1
    assert sum(rewrite_for_xnnpack(model).values()) == 1
    onnx.checker.check_model(model, full_check=True)
    assert gone not in _kinds(model) and come in _kinds(model)
    after = _run(model, images)[0]
    assert np.ptp(before) > 1
    np.testing.assert_allclose(after, before, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (Up(scale_factor=3, mode="nearest"), (1, 5, 6, 7)),
        (Up(scale_factor=2, mode="bilinear"), (1, 5, 6, 7)),
        (Pool(kernel_size=3, stride=1, padding=1), (1, 5, 6, 7)),
        (Pool(kernel_size=2, stride=2, ceil_mode=True), (1, 5, 7, 7)),
        (nn.Softmax(1), (1, 5, 6, 7)),
    ],
    ids=["by three", "bilinear", "with a border", "rounded up", "another softmax"],
)
def test_what_is_something_else_stays(tmp_path, module, shape):
    images = np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)
    model = _traced(module, tmp_path / "a.onnx", torch.from_numpy(images))
    before = model.SerializeToString()
    assert sum(rewrite_for_xnnpack(model).values()) == 0
    assert model.SerializeToString() == before


@pytest.fixture(scope="module")
def deployed(network):
    from yolo.export.graph.deploy import DeployModule

    return DeployModule(network, SIZE)


@pytest.fixture(scope="module")
def plain_run(deployed, tmp_path_factory):
    """The pictures, and what the graph without rewrites gives for them."""
    source = write_source(deployed, tmp_path_factory.mktemp("source") / "plain.onnx", rewrite=False)
    model = onnx.load(source.path)
    assert {"Resize": 2, "AveragePool": 5, "ReduceSum": 1}.items() <= _kinds(model).items()
    images = [sample.image[None] for sample in draw_samples(SIZE)]
    return images, [_run(model, image)[0] for image in images]


def test_the_whole_network_keeps_its_output(deployed, plain_run, tmp_path):
    source = write_source(deployed, tmp_path / "rewritten.onnx", rewrite=True)
    assert source.rewrites == {
        "distribution_as_convolution": 1,
        "upsample_as_depth_to_space": 2,
        "average_pool_as_convolution": 5,
    }
    model = onnx.load(source.path)
    assert not _kinds(model).keys() & {"Resize", "AveragePool", "ReduceSum"}
    for image, expected in zip(*plain_run, strict=True):
        found = _run(model, image)[0]
        np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=1e-3, rtol=0)
        np.testing.assert_allclose(found[:, 4:], expected[:, 4:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("rewrite", [False, True])
def test_raw_outputs_decode_to_the_same(deployed, plain_run, network, tmp_path, rewrite):
    source = write_source(deployed, tmp_path / "raw.onnx", rewrite=rewrite, raw=True)
    model = onnx.load(source.path)
    assert source.bins == 16
    assert [value.name for value in model.graph.output] == ["logits", "scores"]
    assert "Softmax" not in _kinds(model)
    for image, expected in zip(*plain_run, strict=True):
        logits, scores = _run(model, image)
        assert logits.shape == (1, 64, 126) and scores.shape == (1, 3, 126)
        found = decode_distributions(logits, scores, image_size=SIZE, strides=network.strides)
        np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=1e-3, rtol=0)
        np.testing.assert_allclose(found[:, 4:], expected[:, 4:], atol=1e-5, rtol=0)


def test_a_head_without_distributions_has_no_raw_form(tmp_path):
    model = _traced(Pool(kernel_size=2, stride=1), tmp_path / "a.onnx", torch.zeros(1, 3, 8, 8))
    assert model.graph.output[0].name == OUTPUT_NAME
    with pytest.raises(ExportError, match="--int8-io out"):
        find_raw(model)
