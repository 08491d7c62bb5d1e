"""Checkpoints that come from a training, with a data set of their own."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from yolo.core import load_model
from yolo.export import ExportOptions, export_model
from yolo.export.runtimes.onnx import OnnxRuntime
from yolo.export.samples import draw_samples
from yolo.export.verify import predict_reference


@pytest.fixture(scope="module")
def trained(trained_run):
    return trained_run / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize("options", [ExportOptions(), ExportOptions(nms=True, simplify=True)])
def test_the_comparison_takes_the_data_set_of_the_checkpoint(trained, tmp_path, options):
    parity = export_model(trained, output=tmp_path / "trained.onnx", options=options).parity
    assert parity.source == "validation pictures of the checkpoint's data set"
    assert len(parity.differences) == 8
    assert parity.compared >= 10 and parity.off <= parity.tolerances.unmatched * parity.compared


def test_the_file_has_the_averaged_weights(trained, tmp_path):
    averaged, last = load_model(trained), load_model(trained)
    state = torch.load(trained, weights_only=True)["state_dict"]  # of the optimiser's last step
    own = last.state_dict().keys()
    last.load_state_dict({key.removeprefix("model."): value for key, value in state.items() if key[6:] in own})
    runtime = OnnxRuntime(export_model(trained, output=tmp_path / "trained.onnx").path)
    image = draw_samples(runtime.image_size)[0].image[None]
    found = runtime.predict(image)
    assert np.abs(found - predict_reference(averaged, image)).max() < 0.05
    assert np.abs(found - predict_reference(last, image)).max() > 0.5


def test_it_does_without_the_data_set(trained, tmp_path, monkeypatch):
    from yolo.data.config import DataConfig

    monkeypatch.setattr(DataConfig, "folder", property(lambda self: tmp_path / "gone"))
    parity = export_model(trained, output=tmp_path / "trained.onnx").parity
    assert parity.source == "pictures that come with yolo-export"


def test_encrypted_pictures_are_not_taken_without_being_asked_for(trained, synthetic_data, monkeypatch):
    from yolo.core.weights.load import load_bundle
    from yolo.data.loaders import DefaultImageLoader
    from yolo.export.images import trained_on

    settings = load_bundle(trained).extra["data"]
    assert trained_on(settings).paths
    monkeypatch.setattr(DefaultImageLoader, "confidential", True)
    assert trained_on(settings) is None


@pytest.mark.slow
def test_a_network_that_has_hardly_been_trained_passes(synthetic_data, tmp_path):
    """Rounding grows in such a network, and it is sure of nothing."""
    from yolo.training.trainer_cli import run_fit

    options = {
        "data.root": synthetic_data,
        "data.image_size": 320,
        "data.batch_size": 4,
        "data.num_workers": 0,
        "model.model_config": "v9-t",
        "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.logger.init_args.save_dir": tmp_path,
    }
    assert run_fit([f"--{key}={value}" for key, value in options.items()]) == 0
    checkpoint = tmp_path / "yolo/version_0/checkpoints/last.ckpt"
    assert export_model(checkpoint, output=tmp_path / "with_data.onnx").parity.passed
    shutil.copy(checkpoint, tmp_path / "moved.ckpt")
    assert export_model(tmp_path / "moved.ckpt", output=tmp_path / "b.onnx", image_size=640).parity.passed
