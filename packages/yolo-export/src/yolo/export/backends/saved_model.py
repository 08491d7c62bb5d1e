"""TensorFlow's SavedModel: a folder for TensorFlow Serving and TensorFlow.js, made by a converter process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from yolo.export.backends.base import ExportOptions, ExportRequest
from yolo.export.converter.environment import converter_python, require_converter
from yolo.export.converter.process import convert
from yolo.export.converter.source import require_onnx, write_source
from yolo.export.runtimes.saved_model import METADATA_PATH


class SavedModelBackend:
    """Writes ``images`` [1, H, W, 3] to ``output0`` [1, 4 + classes, anchors], the signature ``serving_default``.

    Raises:
        MissingRequirementError: onnx is not installed.
    """

    options: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        require_onnx("saved_model")

    def check(self, options: ExportOptions) -> None:
        """See that there can be a converter.

        Raises:
            EnvironmentUnavailableError: there can be none.
        """
        require_converter()

    def write(self, request: ExportRequest) -> Mapping[str, Any]:
        """Trace, convert and describe; see :class:`yolo.export.backends.base.Backend`."""
        python = converter_python()
        with tempfile.TemporaryDirectory(dir=request.path.parent, prefix=".saved-model-") as name:
            folder = Path(name).absolute()
            source = write_source(request.module, folder / "model.onnx", rewrite=False)
            job = {"format": "saved_model", "onnx": str(source.path), "output": str(request.path.absolute())}
            facts = convert(job, python=python, folder=folder)
        width, height = request.metadata.image_size
        metadata = replace(request.metadata, preprocessing={**request.metadata.preprocessing, "layout": "NHWC"})
        described = request.path / METADATA_PATH
        described.parent.mkdir(exist_ok=True)
        described.write_text(json.dumps(metadata.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        tensors = {"input": {"layout": "NHWC", "dtype": "float32", "shape": [1, height, width, 3]}}
        return {"precision": "float32", "tensors": tensors, **facts}
