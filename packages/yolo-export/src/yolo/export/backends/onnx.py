"""ONNX: one file, checked by the ONNX checker, with names and preprocessing inside."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import onnx
import onnxruntime  # type: ignore[import-untyped]  # ships no types
import torch
from onnx.external_data_helper import uses_external_data

from yolo.core.errors import UsageError
from yolo.export.backends.base import ExportError, ExportRequest
from yolo.export.graph.deploy import DeployModule
from yolo.export.metadata import INPUT_NAME, OUTPUT_NAME, Metadata
from yolo.export.version import __version__

DEFAULT_OPSET = 17
#: What torch's tracing exporter writes faithfully for these networks.
OPSETS = range(11, 21)


class OnnxBackend:
    """Writes ``images`` [batch, 3, H, W] to ``output0`` [batch, 4 + classes, anchors], both float32."""

    options: ClassVar[frozenset[str]] = frozenset({"opset", "simplify", "dynamic_batch"})

    def write(self, request: ExportRequest) -> Mapping[str, Any]:
        """Trace, simplify, describe, check and save; see :class:`yolo.export.backends.base.Backend`."""
        options = request.options
        opset = DEFAULT_OPSET if options.opset is None else options.opset
        if opset not in OPSETS:
            raise UsageError(f"--opset {opset} cannot be written; use {OPSETS[0]} to {OPSETS[-1]}")
        model = _trace(request.module, request.path, opset, dynamic_batch=options.dynamic_batch)
        if options.simplify:
            model = _simplify(model)
        _describe(model, request.metadata)
        _check(model, opset)
        onnx.save(model, request.path)
        return {
            "opset": opset,
            "dynamic_batch": options.dynamic_batch,
            "simplified": options.simplify,
            "precision": "float32",
            "nodes": len(model.graph.node),
            "versions": {
                "torch": str(torch.__version__),
                "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__,
            },
        }


def _trace(module: DeployModule, path: Path, opset: int, *, dynamic_batch: bool) -> onnx.ModelProto:
    width, height = module.image_size
    names = (INPUT_NAME, OUTPUT_NAME)
    with warnings.catch_warnings():
        # The exporter that torch prefers writes other opsets than asked for, and weights beside the file.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Height and width are meant to become constants.
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, height, width),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={name: {0: "batch"} for name in names} if dynamic_batch else None,
        )
    model = onnx.load(path)
    # Where the batch is open, the tracer gives the other sides of the output names of its own: say what they are.
    sides = module.num_classes + 4, module.num_anchors
    for axis, side in enumerate(sides, start=1):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = side
    return model


def _simplify(model: onnx.ModelProto) -> onnx.ModelProto:
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


def _check(model: onnx.ModelProto, opset: int) -> None:
    """Refuse a file that is not what was asked for, whatever the exporter's log said."""
    written = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if written != {"ai.onnx": opset}:
        raise ExportError(f"opset {opset} was asked for, but the exporter wrote {written}; try another --opset")
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        raise ExportError("the exporter put weights beside the ONNX file; the network is too large for one file")
    ends = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    if ends != ([INPUT_NAME], [OUTPUT_NAME]):
        raise ExportError(f"the ONNX graph goes from {ends[0]} to {ends[1]}, not from {INPUT_NAME} to {OUTPUT_NAME}")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX checker refuses the file: {error}") from error
