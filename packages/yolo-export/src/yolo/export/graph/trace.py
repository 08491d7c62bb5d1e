"""Tracing a network into an ONNX graph. Needs onnx, and no runtime."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch

from yolo.export.graph.deploy import DeployModule
from yolo.export.metadata import INPUT_NAME, OUTPUT_NAME


def trace_onnx(
    module: DeployModule, path: Path, *, opset: int, dynamic_batch: bool = False, dynamic_size: bool = False
) -> onnx.ModelProto:
    """Trace a network into a graph from ``images`` to ``output0``.

    Args:
        module: the network.
        path: a file that may be written on the way.
        opset: version of the operator set.
        dynamic_batch: leave the number of images open.
        dynamic_size: leave height and width open; the module must be one that counts its anchors.
    """
    width, height = module.image_size
    axes: dict[str, dict[int, str]] = {INPUT_NAME: {}, OUTPUT_NAME: {}}
    if dynamic_batch:
        axes[INPUT_NAME][0] = axes[OUTPUT_NAME][0] = "batch"
    if dynamic_size:
        axes[INPUT_NAME] |= {2: "height", 3: "width"}
        axes[OUTPUT_NAME][2] = "anchors"
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
            dynamic_axes={name: named for name, named in axes.items() if named} or None,
        )
    model = onnx.load(path)
    # Where something is open, the tracer gives the other sides of the output names of its own: say what they are.
    batch, rows, anchors = model.graph.output[0].type.tensor_type.shape.dim
    rows.dim_value = module.num_classes + 4
    if dynamic_size:
        anchors.dim_param = "anchors"
        if not dynamic_batch:
            batch.dim_value = 1
    else:
        anchors.dim_value = module.num_anchors
    return model
