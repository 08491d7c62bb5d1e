"""TorchScript files and state dicts: the conformance kit, and what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from yolo.core import Predictor
from yolo.core.errors import YoloError
from yolo.core.weights.load import load_bundle, load_model
from yolo.export import ExportOptions, export_model
from yolo.export.runtimes.torch_state import TorchStateRuntime
from yolo.export.runtimes.torchscript import TorchScriptRuntime
from yolo.export.samples import draw_samples
from yolo.export.testing import BackendContract
from yolo.export.verify import predict_reference


class TestTorchScript(BackendContract):
    backend = "torchscript"


class TestTorchScriptOfAnySize(BackendContract):
    backend = "torchscript"
    options = ExportOptions(dynamic_batch=True, dynamic_size=True)

    def test_another_size(self, runtime, network):
        images = np.stack([sample.image for sample in draw_samples((64, 128))[:2]])
        found, expected = runtime.predict(images), predict_reference(network, images)
        np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=1e-3, rtol=0)

    def test_the_comparison_has_a_second_size(self, exported):
        assert any("at 128x32" in found.sample for found in exported.parity.differences)


class TestTorch(BackendContract):
    backend = "torch"

    def test_another_size(self, runtime, network):
        images = np.stack([sample.image for sample in draw_samples((64, 128))[:2]])
        np.testing.assert_allclose(runtime.predict(images), predict_reference(network, images), atol=1e-3, rtol=0)
        with pytest.raises(YoloError, match="multiples of 32"):
            runtime.predict(images[:, :, :100])


@pytest.fixture(scope="module")
def state(checkpoint, tmp_path_factory):
    return export_model(checkpoint, format="torch", output=f"{tmp_path_factory.mktemp('state')}/").path


def test_a_state_dict_is_plain_tensors_without_the_training(state, checkpoint):
    content = torch.load(state, weights_only=True)
    assert list(content) == ["yolo"]
    weights = content["yolo"]["state_dict"]
    assert all(isinstance(value, torch.Tensor) and value.dtype == torch.float32 for value in weights.values())
    assert not any(".bn." in name for name in weights)
    assert state.stat().st_size < 0.8 * checkpoint.stat().st_size


def test_a_state_dict_goes_wherever_a_checkpoint_goes(state, checkpoint):
    found, wanted = load_bundle(state), load_bundle(checkpoint)
    assert (found.class_names, found.image_size) == (wanted.class_names, wanted.image_size)
    image = np.stack([draw_samples((96, 64))[0].image])
    expected = predict_reference(load_model(checkpoint), image)
    np.testing.assert_allclose(predict_reference(load_model(state), image), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [None, (128, 64)])
def test_a_predictor_takes_both(state, checkpoint, tmp_path, size):
    options = ExportOptions(dynamic_size=True)
    script = export_model(checkpoint, format="torchscript", output=tmp_path / "a.torchscript", options=options).path
    picture = np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8)
    settings = {"confidence": 0.0, "max_detections": 20, "image_size": size}
    (wanted,) = Predictor(checkpoint, device="cpu", **settings)(picture)
    for path in (state, script):
        (found,) = Predictor(path, **settings)(picture)
        assert len(found) == len(wanted) == 20
        assert np.abs(found.scores - wanted.scores).max() < 1e-4


@pytest.mark.parametrize("runtime", [TorchScriptRuntime, TorchStateRuntime])
def test_runtimes_refuse_what_is_not_theirs(tmp_path, runtime):
    with pytest.raises(YoloError, match="does not exist"):
        runtime(tmp_path / "none")
    (tmp_path / "text").write_text("nothing of the kind")
    with pytest.raises(YoloError, match="text"):
        runtime(tmp_path / "text")


def test_a_foreign_script_is_refused(tmp_path):
    torch.jit.trace(torch.nn.Identity(), torch.zeros(1)).save(str(tmp_path / "other.torchscript"))
    with pytest.raises(YoloError, match="was not written by 'yolo export'"):
        TorchScriptRuntime(tmp_path / "other.torchscript")


@pytest.mark.parametrize("format", ["torch", "torchscript"])
def test_a_full_disk_is_told_in_one_line(checkpoint, tmp_path, monkeypatch, format):
    """torch itself, writing to a file, ends the process or says that a position is unexpected."""
    write_bytes = Path.write_bytes

    def full(self, data):
        if ".manifest" not in self.name:
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(YoloError, match="No space left on device"):
        export_model(checkpoint, format=format, output=f"{tmp_path}/", options=ExportOptions(verify=False))
    assert list(tmp_path.iterdir()) == []
