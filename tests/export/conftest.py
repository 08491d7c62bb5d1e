"""One random checkpoint and two exported files for all tests of this folder."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch

absent = [name for name in ("onnxruntime", "ai_edge_litert") if importlib.util.find_spec(name) is None]
assert not absent or os.environ.get("CI") != "true", f"without {absent} tests are left out, and CI=true forbids that"
collect_ignore_glob = ["test_*onnx*.py"] if "onnxruntime" in absent else []

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
    from yolo.export.graph.deploy import DeployModule

    deployed = DeployModule(network, SIZE)

    def install(change=lambda model: None):
        requests = []

        def write(self, request):
            requests.append(request)
            model = onnx.load(plain.path)
            change(model)
            onnx.save(model, request.path)
            return {"opset": 17, "versions": {}}

        monkeypatch.setattr(OnnxBackend, "write", write)
        monkeypatch.setattr(OnnxBackend, "find_divergence", lambda *_: None)
        monkeypatch.setattr(exporter, "DeployModule", lambda network, size: deployed)
        monkeypatch.setattr(ModelBundle, "build", lambda self, *, name="": network)
        return requests

    return install


@pytest.fixture(scope="session")
def bundle(plain, tmp_path_factory):
    """The deployment bundle of the plain export; not to be changed."""
    from yolo.export.bundle import bundle_path, write_bundle
    from yolo.export.metadata import Metadata
    from yolo.export.runtimes.onnx import OnnxRuntime

    runtime = OnnxRuntime(plain.path)
    told = runtime.metadata
    metadata = Metadata(
        class_names=runtime.class_names,
        image_size=runtime.image_size,
        strides=tuple(told["strides"]),
        architecture=told["architecture"],
        checkpoint_sha256=told["checkpoint_sha256"],
    )
    folder = tmp_path_factory.mktemp("bundle") / bundle_path(plain.path).name
    return write_bundle(folder, model_path=plain.path, manifest=plain.manifest, metadata=metadata, runtime=runtime)
