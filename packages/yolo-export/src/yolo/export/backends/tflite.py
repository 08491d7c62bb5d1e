"""TensorFlow Lite: float32, float16 or int8, made by a converter process from a rewritten ONNX graph."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.errors import UsageError
from yolo.export.backends.base import ExportError, ExportOptions, ExportRequest
from yolo.export.converter.environment import converter_python, require_converter
from yolo.export.converter.process import convert
from yolo.export.converter.source import require_onnx, write_source
from yolo.export.metadata import Metadata
from yolo.export.runtimes.delegation import Delegation, count_delegated
from yolo.export.runtimes.distributions import FORM, LOGITS, SCORES
from yolo.export.runtimes.litert import METADATA_FILE, LiteRtRuntime

PRECISIONS = {"none": "float32", "fp16": "float16", "int8": "int8"}
_WRONG = 0.5  # relative error of a layer's output
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # equal exports are equal files


class TfliteBackend:
    """Writes ``images`` [1, H, W, 3] to ``output0`` [1, 4 + classes, anchors], both float32.

    With ``int8`` the network computes in integers and the decoding in float32, so that boxes keep their precision. With
    ``int8_io`` all of the file is integers, and so are input and outputs: ``logits`` [1, 4 * bins, anchors] and
    ``scores`` [1, classes, anchors]; :mod:`yolo.export.runtimes.distributions` decodes them.

    Raises:
        MissingRequirementError: onnx is not installed.
    """

    options: ClassVar[frozenset[str]] = frozenset({"quantization", "int8_io", "keep_float", "xnnpack_optimize"})

    def __init__(self) -> None:
        require_onnx("tflite")
        self._layer_errors: list[list[Any]] = []

    def check(self, options: ExportOptions) -> None:
        """Refuse options that exclude each other, and see that there can be a converter.

        Raises:
            UsageError: they do.
            EnvironmentUnavailableError: there can be none.
        """
        if options.int8_io and options.keep_float:
            raise UsageError("--keep-float makes layers that an integer-only file cannot have: leave --int8-io out")
        require_converter()

    def write(self, request: ExportRequest) -> Mapping[str, Any]:
        """Trace, rewrite, convert and describe; see :class:`yolo.export.backends.base.Backend`."""
        options, size = request.options, request.metadata.image_size
        pictures = request.calibration if options.quantization == "int8" else None
        if options.quantization == "int8" and not pictures:
            raise ExportError("int8 needs pictures to calibrate with: --calibration-images")
        python = converter_python()
        with tempfile.TemporaryDirectory(dir=request.path.parent, prefix=".tflite-") as name:
            folder = Path(name).absolute()
            source = write_source(
                request.module, folder / "model.onnx", rewrite=options.xnnpack_optimize, raw=options.int8_io
            )
            job: dict[str, Any] = {
                "format": "tflite",
                "onnx": str(source.path),
                "output": str(request.path.absolute()),
                "quantization": options.quantization,
                "int8_io": options.int8_io,
                "keep_float": list(options.keep_float),
            }
            if pictures:
                job["calibration"] = [len(pictures), size[1], size[0], 3]
            canvases = pictures.canvases(size) if pictures else ()
            facts = convert(job, python=python, folder=folder, pictures=canvases)
        self._layer_errors = facts.get("layer_errors", [])
        ours = {"torch": str(torch.__version__), "ai-edge-litert": version("ai-edge-litert")}
        facts["versions"] = {**facts.get("versions", {}), **ours}
        metadata = _describe(request.metadata, integers=options.int8_io, bins=source.bins)
        append_metadata(request.path, metadata)
        delegation = count_delegated(request.path)
        return {
            "precision": PRECISIONS[options.quantization],
            "quantization": options.quantization,
            "int8_io": options.int8_io,
            "keep_float": list(options.keep_float),
            "rewrites": source.rewrites,
            "xnnpack": _told(delegation),
            "tensors": LiteRtRuntime(request.path, threads=1).describe(),
            **facts,
        }

    def find_divergence(self, request: ExportRequest, image: NDArray[np.float32]) -> str | None:
        """Name the first layer of an int8 file that is more wrong than right; see the backend's protocol."""
        for name, error in self._layer_errors:
            if error > _WRONG:
                return f"the first layer that is off by half of its size is '{name}'; try --keep-float"
        return None


def append_metadata(path: Path, metadata: Metadata) -> None:
    """Put a description into a TensorFlow Lite file: at its end, as a ZIP archive, which interpreters do not see."""
    entry = zipfile.ZipInfo(METADATA_FILE, date_time=_ZIP_TIME)
    text = json.dumps(metadata.to_dict(), indent=2, ensure_ascii=False)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, text)


def _describe(metadata: Metadata, *, integers: bool, bins: int) -> Metadata:
    """What is said in the file: it takes NHWC, and a file of integers has outputs of its own."""
    preprocessing = {**metadata.preprocessing, "layout": "NHWC"}
    if not integers:
        return replace(metadata, preprocessing=preprocessing)
    output = {
        "form": FORM,
        "bins": bins,
        LOGITS: f"[1, {4 * bins}, anchors]: left, top, right, bottom, {bins} bins each, in units of the stride",
        SCORES: "[1, classes, anchors]: probability of each class (sigmoid is applied)",
        "anchors": metadata.output["anchors"],
        "nms": False,
    }
    return replace(metadata, preprocessing={**preprocessing, "dtype": "int8"}, output=output)


def _told(delegation: Delegation) -> dict[str, Any]:
    return {
        "nodes": delegation.nodes,
        "delegated": delegation.nodes - len(delegation.left),
        "partitions": delegation.partitions,
        "left": sorted(set(delegation.left)),
    }
