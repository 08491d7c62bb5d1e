"""What yolo-export adds to the ``yolo`` command: the formats it writes, and ``export``. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from yolo.core.plugins import CommandSpec, ExportBackendSpec, hookimpl


@hookimpl
def yolo_export_backends() -> Iterator[ExportBackendSpec]:
    """File formats."""
    yield ExportBackendSpec(
        "onnx",
        target="yolo.export.backends.onnx:OnnxBackend",
        summary="ONNX for onnxruntime, OpenVINO, TensorRT and others.",
        suffix=".onnx",
        requires=("onnx", "onnxruntime", "onnxslim"),
        extra="onnx",
        runtime="yolo.export.runtimes.onnx:OnnxRuntime",
    )


@hookimpl
def yolo_commands() -> Iterator[CommandSpec]:
    """Commands."""
    yield CommandSpec(
        "export",
        target="yolo.export.commands.export:export",
        summary="Write a trained model as ONNX, and check that it still is the same model.",
    )
