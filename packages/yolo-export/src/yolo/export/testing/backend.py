"""Tests that every export backend should pass."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from yolo.core.plugins import ExportBackendSpec, MissingRequirementError, registry
from yolo.core.weights.load import load_model
from yolo.export.backends.base import GENERAL, ExportOptions
from yolo.export.exporter import ExportResult, export_model
from yolo.export.manifest import sha256
from yolo.export.runtimes.base import Runtime
from yolo.export.samples import draw_samples
from yolo.export.testing.checkpoint import write_random_checkpoint
from yolo.export.verify import check_parity

SIZE = (96, 64)
NAMES = ("circle", "square", "Dreieck ▲")
_EXPORTS: dict[tuple[str, ExportOptions], tuple[Path, ExportResult]] = {}


class BackendContract:
    """Tests of an export backend; inherit it in a test file and set the name that the backend is registered by::

    from yolo.export.testing import BackendContract

    class TestMyBackend(BackendContract):
        backend = "my-format"

    Set ``options`` to test files with other settings. The checkpoint is a small network of 96 x 64 pixels.
    """

    backend: str
    options: ExportOptions = ExportOptions()

    @pytest.fixture
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

    @pytest.fixture
    def exported(self, spec: ExportBackendSpec, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
        """One export for all tests of the class, to a folder that nothing else is in."""
        key = self.backend, self.options
        if key not in _EXPORTS:
            checkpoint = tmp_path_factory.mktemp("checkpoint") / "last.ckpt"
            write_random_checkpoint(checkpoint, class_names=NAMES, image_size=SIZE)
            folder = tmp_path_factory.mktemp("export")
            result = export_model(checkpoint, format=spec.name, output=f"{folder}/", options=self.options)
            _EXPORTS[key] = checkpoint, result
        return _EXPORTS[key][1]

    @pytest.fixture
    def source(self, exported: ExportResult) -> Path:
        """The checkpoint that was exported."""
        return _EXPORTS[self.backend, self.options][0]

    @pytest.fixture
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
        assert set(self.options.asked()) <= options | GENERAL

    def test_parity(self, exported: ExportResult) -> None:
        """The gate ran on several inputs and passed."""
        assert exported.parity is not None and exported.parity.passed
        assert len(exported.parity.differences) >= 4

    def test_one_file_and_its_manifest(self, exported: ExportResult) -> None:
        """Nothing else stays behind: no weights beside the file or folder, no temporary files."""
        assert set(exported.path.parent.iterdir()) == {exported.path, exported.manifest_path}

    def test_manifest(self, exported: ExportResult, source: Path) -> None:
        """The manifest names the source by its hash, and has all that is needed to use the file."""
        manifest = json.loads(exported.manifest_path.read_text(encoding="utf-8"))
        assert manifest == exported.manifest
        assert manifest["checkpoint"]["sha256"] == sha256(source)
        assert manifest["class_names"] == list(NAMES)
        assert manifest["image_size"] == list(SIZE)
        assert manifest["preprocessing"]["letterbox"]["fill"] == [114, 114, 114]
        assert manifest["parity"]["passed"] is True

    def test_loads_again(self, runtime: Runtime) -> None:
        """The file knows its names and its size (width, height)."""
        assert runtime.class_names == NAMES
        assert runtime.image_size == SIZE

    def test_output(self, runtime: Runtime, source: Path, exported: ExportResult) -> None:
        """Three images give ``[3, 4 + classes, anchors]``, the same as PyTorch, image by image."""
        samples, network = draw_samples(SIZE, seed=7)[:3], load_model(source)
        found = runtime.predict(np.stack([sample.image for sample in samples]))
        assert found.dtype == np.float32
        assert found.shape == (3, 4 + len(NAMES), 96 + 24 + 6)
        alone = np.concatenate([runtime.predict(sample.image[None]) for sample in samples])
        assert np.abs(found - alone).max() <= 0.01
        assert exported.parity is not None
        check_parity(network, runtime, samples, exported.parity.tolerances).require("the file")
