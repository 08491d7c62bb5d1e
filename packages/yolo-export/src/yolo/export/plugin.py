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
        requires=("onnx", "onnxruntime", "onnxslim", "onnxconverter_common"),
        extra="onnx",
        runtime="yolo.export.runtimes.onnx:OnnxRuntime",
    )
    yield ExportBackendSpec(
        "tflite",
        target="yolo.export.backends.tflite:TfliteBackend",
        summary="TensorFlow Lite for phones and small computers: float32, float16, int8.",
        suffix=".tflite",
        requires=("ai_edge_litert",),
        extra="litert",
        runtime="yolo.export.runtimes.litert:LiteRtRuntime",
    )
    yield ExportBackendSpec(
        "saved_model",
        target="yolo.export.backends.saved_model:SavedModelBackend",
        summary="TensorFlow's SavedModel, a folder for TensorFlow Serving and TensorFlow.js.",
        suffix="saved_model/",
        runtime="yolo.export.runtimes.saved_model:SavedModelRuntime",
    )
    yield ExportBackendSpec(
        "torchscript",
        target="yolo.export.backends.torchscript:TorchScriptBackend",
        summary="TorchScript, for programs with libtorch.",
        suffix=".torchscript",
        runtime="yolo.export.runtimes.torchscript:TorchScriptRuntime",
    )
    yield ExportBackendSpec(
        "torch",
        target="yolo.export.backends.torch_state:TorchStateBackend",
        summary="A state dict of the fused weights, without anything of the training.",
        suffix=".state.pt",
        runtime="yolo.export.runtimes.torch_state:TorchStateRuntime",
    )


@hookimpl
def yolo_commands() -> Iterator[CommandSpec]:
    """Commands."""
    yield CommandSpec(
        "export",
        target="yolo.export.commands.export:export",
        summary="Write a trained model as ONNX, TFLite and others, and check that it still is the same model.",
    )
