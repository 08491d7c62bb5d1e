"""TensorFlow Lite files of a handful of nodes, made without TensorFlow: an input is cut up and given back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yolo.export.metadata import Metadata

SIDE = 32
ANCHORS = 16 + 4 + 1
CLASSES = 2
#: A step of 1/16 around zero, so that numbers in steps of 1/16 go through integers unchanged.
SCALE, ZERO = 1 / 16, -3
#: What such a file may be told to say about itself.
METADATA = Metadata(
    class_names=("cat", "Hündin"),
    image_size=(SIDE, SIDE),
    strides=(8, 16, 32),
    architecture="v9-t",
    checkpoint_sha256="0" * 64,
)


def write_decoded(path: Path, *, integers: bool = False, classes: int = CLASSES) -> Path:
    """The input's first numbers as ``[1, 4 + classes, 21]``."""
    rows = 4 + classes
    return _write(path, [("output0", 0, [1, rows, ANCHORS])], integers=integers)


def write_raw(path: Path, *, integers: bool = False, swapped: bool = False) -> Path:
    """The input's first numbers as logits ``[1, 64, 21]``, the next as scores ``[1, classes, 21]``."""
    outputs = [("logits", 0, [1, 64, ANCHORS]), ("scores", 64 * ANCHORS, [1, CLASSES, ANCHORS])]
    return _write(path, outputs[::-1] if swapped else outputs, integers=integers)


def _write(path: Path, outputs: list[tuple[str, int, list[int]]], *, integers: bool) -> Path:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    kind = schema.TensorType.INT8 if integers else schema.TensorType.FLOAT32
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers = 3, [schema.BufferT()]
    graph.tensors, graph.operators = [], []

    def tensor(name: str, shape: list[int], value: np.ndarray | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name, shape, 0
        made.type = kind if value is None else schema.TensorType.INT32
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(value.astype(np.int32).tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        elif integers:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [SCALE], [ZERO]
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operate(code: int, inputs: list[int], output: int) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, [output]
        graph.operators.append(operator)

    reshape, cut = 0, 1
    codes = (schema.BuiltinOperator.RESHAPE, schema.BuiltinOperator.SLICE)
    model.operatorCodes = [schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code) for code in codes]
    images = tensor("images", [1, SIDE, SIDE, 3])
    flat = tensor("flat", [1, SIDE * SIDE * 3])
    operate(reshape, [images, tensor("shape", [2], np.array([1, SIDE * SIDE * 3]))], flat)
    ends = []
    for name, start, shape in outputs:
        size = int(np.prod(shape))
        piece, end = tensor(f"{name}/piece", [1, size]), tensor(f"Identity_{name}", shape)
        begin, count = (
            tensor(f"{name}/begin", [2], np.array([0, start])),
            tensor(f"{name}/size", [2], np.array([1, size])),
        )
        operate(cut, [flat, begin, count], piece)
        operate(reshape, [piece, tensor(f"{name}/shape", [3], np.array(shape))], end)
        ends.append((name, end))
    graph.inputs, graph.outputs = [images], [index for _, index in ends]
    model.subgraphs = [graph]
    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.inputs = [schema.TensorMapT(name="images", tensorIndex=images)]
    signature.outputs = [schema.TensorMapT(name=name, tensorIndex=index) for name, index in ends]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
