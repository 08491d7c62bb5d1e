"""One random checkpoint and two exported files for all tests of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

collect_ignore_glob = [] if importlib.util.find_spec("onnxruntime") else ["test_*onnx*.py"]

NAMES = ("circle", "square", "Dreieck ▲")
SIZE = (96, 64)  # (width, height)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    from yolo.export.testing import write_random_checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "best.ckpt"
    return write_random_checkpoint(path, class_names=NAMES, image_size=SIZE)


@pytest.fixture(scope="session")
def plain(checkpoint, tmp_path_factory):
    """A plain export, not square, of a batch of one."""
    from yolo.export import export_model

    pytest.importorskip("onnxruntime", reason="needs yolo-export[onnx]")
    folder = tmp_path_factory.mktemp("plain")
    return export_model(checkpoint, output=folder / "plain.onnx")


@pytest.fixture(scope="session")
def network(checkpoint):
    from yolo.core.weights.load import load_model

    return load_model(checkpoint)


@pytest.fixture
def fake_backend(plain, network, monkeypatch):
    """Replace all slow work by a copy of the plain file that `change(model)` has been at; returns the requests."""
    import onnx

    from yolo.core.weights.bundle import ModelBundle
    from yolo.export import exporter
    from yolo.export.backends.onnx import OnnxBackend

    def install(change=lambda model: None):
        requests = []

        def write(self, request):
            requests.append(request)
            model = onnx.load(plain.path)
            change(model)
            onnx.save(model, request.path)
            return {"opset": 17, "versions": {}}

        monkeypatch.setattr(OnnxBackend, "write", write)
        monkeypatch.setattr(exporter, "DeployModule", lambda network, size: None)
        monkeypatch.setattr(ModelBundle, "build", lambda self, *, name: network)
        return requests

    return install
