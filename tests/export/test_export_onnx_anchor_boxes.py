"""Networks with anchor boxes and retriever dictionaries as ONNX files: the blocks that YOLOv7 and YOLO-RD add."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yolo.core.models import build_model
from yolo.core.weights.load import load_model
from yolo.export import ExportOptions, export_model
from yolo.export.graph.deploy import DeployModule
from yolo.export.samples import draw_samples
from yolo.export.testing import write_random_checkpoint
from yolo.export.verify import predict_reference

SIZE = (96, 64)
MODEL = """\
name: small
anchor: {anchor: [[10, 12, 20, 24], [40, 50, 60, 30, 90, 90]]}
backbone:
  - Conv: {args: {out_channels: 8, kernel_size: 3, stride: 2}, source: 0}
  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}}
  - RepNCSPELAND: {args: {out_channels: 16, part_channels: 16, atoms: 12}, tags: B2}
  - Conv: {args: {out_channels: 24, kernel_size: 3, stride: 2}}
  - SPPCSPConv: {args: {out_channels: 16}}
  - RepConv: {args: {out_channels: 24}, tags: B3}
detection:
  - MultiheadDetection: {args: {version: v7}, source: [B2, B3], tags: Main}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.yaml").write_text(MODEL)
    return write_random_checkpoint(folder / "best.ckpt", model=str(folder / "small.yaml"), image_size=SIZE)


@pytest.mark.parametrize("options", [ExportOptions(), ExportOptions(opset=13, simplify=True, dynamic_batch=True)])
def test_files_pass_the_gate(small, tmp_path, options):
    pytest.importorskip("onnxruntime", reason="needs yolo-export[onnx]")
    result = export_model(small, output=tmp_path / "small.onnx", options=options)
    assert result.parity.passed and result.parity.boxes < 1e-3 and result.parity.scores < 1e-5
    assert "anchor box" in result.manifest["output"]["anchors"]


def test_any_size(small, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs yolo-export[onnx]")
    options = ExportOptions(dynamic_size=True, dynamic_batch=True)
    parity = export_model(small, output=tmp_path / "small.onnx", options=options).parity
    assert any("at 104x56" in found.sample for found in parity.differences)  # its coarsest stride is 8


def test_hard_swish_is_another_function(small, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs yolo-export[onnx]")
    import onnx

    from yolo.export.runtimes.onnx import OnnxRuntime

    options = ExportOptions(activation="hard-swish")
    result = export_model(small, output=tmp_path / "small.onnx", options=options)
    assert result.manifest["settings"]["activation"] == "hard-swish"
    kinds = [node.op_type for node in onnx.load(result.path).graph.node]
    assert {"HardSwish", "HardSigmoid"} & set(kinds)
    images = np.stack([draw_samples(SIZE)[0].image])
    difference = np.abs(OnnxRuntime(result.path).predict(images) - predict_reference(load_model(small), images))
    assert difference[:, :4].max() > 0.1


def test_module_is_the_network(small):
    network = load_model(small)
    module = DeployModule(network, SIZE)
    images = np.stack([sample.image for sample in draw_samples(SIZE)])
    with torch.no_grad():
        found = module(torch.from_numpy(images)).numpy()
    expected = predict_reference(network, images)
    assert found.shape == (len(images), 4 + 3, 2 * 16 * 24 + 3 * 8 * 12)
    assert expected[:, :4].std() > 1 and expected[:, 4:].std() > 0.01
    np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=1e-3, rtol=0)
    np.testing.assert_allclose(found[:, 4:], expected[:, 4:], atol=1e-5, rtol=0)
    assert not any("implicit" in name for name, _ in module.named_parameters())
    assert any("implicit" in name for name, _ in network.named_parameters()), "the network itself must stay as it was"


@pytest.mark.parametrize("name", ["v7", "rd-9c"])
def test_published_networks_deploy(name):
    torch.manual_seed(0)
    network = build_model(name, 2, image_size=(64, 32)).eval()
    images = np.random.default_rng(0).random((1, 3, 32, 64), np.float32)
    with torch.no_grad():
        found = DeployModule(network, (64, 32))(torch.from_numpy(images)).numpy()
    expected = predict_reference(network, images)
    np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=1e-3, rtol=0)
    np.testing.assert_allclose(found[:, 4:], expected[:, 4:], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v7", "rd-9c"])
def test_published_networks_as_files(name, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs yolo-export[onnx]")
    checkpoint = write_random_checkpoint(tmp_path / "best.ckpt", model=name, image_size=(64, 64))
    assert export_model(checkpoint, output=tmp_path / "file.onnx").parity.passed
