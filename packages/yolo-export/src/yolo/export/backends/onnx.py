"""ONNX: one file, checked by the ONNX checker, with names and preprocessing inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # ships no types
import torch
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from yolo.core.errors import UsageError
from yolo.export.backends.base import ExportError, ExportOptions, ExportRequest
from yolo.export.graph.trace import trace_onnx
from yolo.export.metadata import INPUT_NAME, NMS_NAME, OUTPUT_NAME, Metadata
from yolo.export.version import __version__

DEFAULT_OPSET = 17
#: What torch's tracing exporter writes faithfully for these networks.
OPSETS = range(11, 21)


class OnnxBackend:
    """Writes ``images`` [batch, 3, H, W] to ``output0`` [batch, 4 + classes, anchors], both float32."""

    options: ClassVar[frozenset[str]] = frozenset({"opset", "simplify", "dynamic_batch", "dynamic_size", "half", "nms"})

    def check(self, options: ExportOptions) -> None:
        """Refuse operator sets that cannot be written, before any work."""
        opset = _opset(options)
        if opset not in OPSETS:
            raise UsageError(f"--opset {opset} cannot be written; use {OPSETS[0]} to {OPSETS[-1]}")
        if options.nms:
            from yolo.export.graph.nms import FIRST_OPSET

            if opset < FIRST_OPSET:
                raise UsageError(f"--nms needs --opset {FIRST_OPSET} or later, not {opset}")

    def write(self, request: ExportRequest) -> Mapping[str, Any]:
        """Trace, simplify, describe, check and save; see :class:`yolo.export.backends.base.Backend`."""
        options = request.options
        self.check(options)
        opset = _opset(options)
        model = trace_onnx(
            request.module,
            request.path,
            opset=opset,
            dynamic_batch=options.dynamic_batch,
            dynamic_size=options.dynamic_size,
        )
        if options.simplify:
            model = _simplify(model)
        if options.half:
            from yolo.export.graph.half import to_float16

            model = to_float16(model)
        if options.nms:
            from yolo.export.graph.nms import add_nms

            add_nms(model)
        _describe(model, request.metadata)
        _check(model, opset, outputs=[OUTPUT_NAME, NMS_NAME] if options.nms else [OUTPUT_NAME])
        onnx.save(model, request.path)
        return {
            "opset": opset,
            "dynamic_batch": options.dynamic_batch,
            "dynamic_size": options.dynamic_size,
            "simplified": options.simplify,
            "nms": options.nms,
            "precision": "float16" if options.half else "float32",
            "nodes": len(model.graph.node),
            "versions": {
                "torch": str(torch.__version__),
                "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__,
            },
        }

    def find_divergence(self, request: ExportRequest, image: NDArray[np.float32]) -> str | None:
        """Name the first layer that is wrong in the file that was written; ``image``: float32 ``[3, H, W]``."""
        from yolo.export.graph.divergence import ALLOWED, first_divergence

        allowed = ALLOWED["float16" if request.options.half else "float32"]
        return first_divergence(request.path, request.module, image, allowed=allowed)


def _opset(options: ExportOptions) -> int:
    return DEFAULT_OPSET if options.opset is None else options.opset


def _simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and merge nodes.

    Raises:
        ExportError: onnxslim gives up.
    """
    import onnxslim  # type: ignore[import-untyped]  # ships no types

    slim = onnxslim.slim(model)
    if not isinstance(slim, onnx.ModelProto):
        raise ExportError("onnxslim could not simplify the network; leave --simplify out")
    return slim


def _describe(model: onnx.ModelProto, metadata: Metadata) -> None:
    model.producer_name = "yolo-export"
    model.producer_version = __version__
    model.doc_string = "YOLO detector; see metadata_props for classes, input and output"
    del model.metadata_props[:]
    for key, value in metadata.to_properties().items():
        model.metadata_props.add(key=key, value=value)


def _check(model: onnx.ModelProto, opset: int, *, outputs: list[str]) -> None:
    """Refuse a file that is not what was asked for, whatever the exporter's log said."""
    written = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if written != {"ai.onnx": opset}:
        raise ExportError(f"opset {opset} was asked for, but the exporter wrote {written}; try another --opset")
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        raise ExportError("the exporter put weights beside the ONNX file; the network is too large for one file")
    ends = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    if ends != ([INPUT_NAME], outputs):
        raise ExportError(f"the ONNX graph goes from {ends[0]} to {ends[1]}, not from {INPUT_NAME} to {outputs}")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX checker refuses the file: {error}") from error
