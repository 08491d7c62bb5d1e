"""Tests that every export backend should pass."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from yolo.core.models.load import load_model
from yolo.core.plugins import ExportBackendSpec, MissingRequirementError, registry

from yolo.export.backends.base import ExportOptions
from yolo.export.exporter import ExportResult, export_model
from yolo.export.manifest import sha256
from yolo.export.runtimes.base import Runtime
from yolo.export.samples import draw_samples
from yolo.export.testing.checkpoint import write_random_checkpoint
from yolo.export.verify import predict_reference

SIZE = (96, 64)
NAMES = ("circle", "square", "Dreieck ▲")


class BackendContract:
    """Tests of an export backend; inherit it in a test file and set the name that the backend is registered by::

    from yolo.export.testing import BackendContract

    class TestMyBackend(BackendContract):
        backend = "my-format"

    Set ``options`` to test files with other settings. The checkpoint is a small network of 96 x 64 pixels.
    """

    backend: str
    options: ExportOptions = ExportOptions()

    @pytest.fixture(scope="class")
    def spec(self) -> ExportBackendSpec:
        """The backend's record; skips where its extra is not installed."""
        backends = registry("export_backends")
        spec = backends.get(self.backend)
        assert isinstance(spec, ExportBackendSpec)
        try:
            backends.load(self.backend)
        except MissingRequirementError as error:
            pytest.skip(str(error))
        return spec

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder that is exported to, and nothing else is in."""
        return tmp_path_factory.mktemp("export")

    @pytest.fixture(scope="class")
    def checkpoint(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The checkpoint that is exported."""
        path = tmp_path_factory.mktemp("checkpoint") / "last.ckpt"
        return write_random_checkpoint(path, class_names=NAMES, image_size=SIZE)

    @pytest.fixture(scope="class")
    def exported(self, spec: ExportBackendSpec, checkpoint: Path, folder: Path) -> ExportResult:
        """One export."""
        return export_model(checkpoint, format=spec.name, output=f"{folder}/", options=self.options)

    @pytest.fixture(scope="class")
    def runtime(self, spec: ExportBackendSpec, exported: ExportResult) -> Runtime:
        """The exported file, loaded again."""
        loaded: Runtime = registry("export_backends").load_runtime(spec.name)(exported.path)
        return loaded

    def test_suffix(self, spec: ExportBackendSpec) -> None:
        """A file has a suffix; a folder ends with a slash."""
        assert spec.suffix.startswith(".") or spec.suffix.endswith("/")

    def test_has_a_runtime(self, spec: ExportBackendSpec) -> None:
        """A file that cannot be loaded again cannot be verified."""
        assert spec.runtime is not None

    def test_options_exist(self, spec: ExportBackendSpec) -> None:
        """The backend honours options that there are, and those under test."""
        known = {field.name for field in fields(ExportOptions)}
        options = registry("export_backends").load(spec.name).options
        assert options <= known
        assert set(self.options.asked()) <= options

    def test_parity(self, exported: ExportResult) -> None:
        """The gate ran on several inputs and passed."""
        assert exported.parity.passed
        assert len(exported.parity.differences) >= 4

    def test_one_file_and_its_manifest(self, exported: ExportResult, folder: Path) -> None:
        """Nothing else stays behind: no weights beside the file, no temporary files."""
        assert {path.name for path in folder.iterdir()} == {exported.path.name, exported.manifest_path.name}

    def test_manifest(self, exported: ExportResult, checkpoint: Path) -> None:
        """The manifest names the source by its hash, and has all that is needed to use the file."""
        manifest = json.loads(exported.manifest_path.read_text(encoding="utf-8"))
        assert manifest == exported.manifest
        assert manifest["checkpoint"]["sha256"] == sha256(checkpoint)
        assert manifest["class_names"] == list(NAMES)
        assert manifest["image_size"] == list(SIZE)
        assert manifest["preprocessing"]["letterbox"]["fill"] == [114, 114, 114]
        assert manifest["parity"]["passed"] is True

    def test_loads_again(self, runtime: Runtime) -> None:
        """The file knows its names and its size (width, height)."""
        assert runtime.class_names == NAMES
        assert runtime.image_size == SIZE

    def test_output(self, runtime: Runtime, checkpoint: Path, exported: ExportResult) -> None:
        """Three images give ``[3, 4 + classes, anchors]``, the same as PyTorch, image by image."""
        images = np.stack([sample.image for sample in draw_samples(SIZE, seed=7)[:3]])
        found = runtime.predict(images)
        expected = predict_reference(load_model(checkpoint), images)
        assert found.dtype == np.float32
        assert found.shape == expected.shape == (3, 4 + len(NAMES), 96 + 24 + 6)
        allowed = exported.parity.tolerances
        assert np.abs(found[:, :4] - expected[:, :4]).max() <= allowed.boxes
        assert np.abs(found[:, 4:] - expected[:, 4:]).max() <= allowed.scores
