"""The operations of a TensorFlow Lite file, and which of their tensors are to stay float."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

from .errors import RefusalError


class Layer:
    """One operation of a TensorFlow Lite file: its kind, and tensors by name."""

    def __init__(self, kind: str, inputs: list[str], outputs: list[str]) -> None:
        self.kind, self.inputs, self.outputs = kind, inputs, outputs


def read_layers(model: bytes) -> list[Layer]:
    """All operations, in the order of work."""
    interpreter = open_interpreter(model)
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    return [
        Layer(
            operation["op_name"],
            [names[index] for index in operation["inputs"] if index in names],
            [names[index] for index in operation["outputs"] if index in names],
        )
        for operation in interpreter._get_ops_details()
    ]


def decoding_tail(layers: list[Layer]) -> list[str]:
    """Names of the tensors of the decoding: all after the softmax of the distributions, or else after the last layers.

    Without distributions (YOLOv7) it is what no convolution comes after.
    """
    tail: set[str] = set()
    for layer in layers:
        if layer.kind == "SOFTMAX" or tail.intersection(layer.inputs):
            tail.update(layer.outputs)
    if tail:
        return sorted(tail)
    before: set[str] = set()
    for layer in reversed(layers):
        if "CONV" in layer.kind or before.intersection(layer.outputs):
            before.update((*layer.inputs, *layer.outputs))
    return sorted(name for layer in layers for name in layer.outputs if name not in before)


def name_convolutions(model: bytes, source: Path) -> dict[str, str]:
    """The network's own names of its convolutions, by the tensors that they write; known by their weights.

    Args:
        model: a float file.
        source: the ONNX file that it was made from, whose weights have the names of the network's parameters.
    """
    import numpy as np
    import onnx

    known = {}
    for tensor in onnx.load(source).graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.ndim == 4 and "/" not in tensor.name:  # not those of rewrites
            # [out, in, height, width] there, [out, height, width, in] here
            known[value.transpose(0, 2, 3, 1).tobytes()] = tensor.name.removesuffix(".weight")
            known[value.transpose(1, 2, 3, 0).tobytes()] = tensor.name.removesuffix(".weight")  # depthwise
    interpreter = open_interpreter(model)
    details = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    found = {}
    for operation in interpreter._get_ops_details():
        if "CONV_2D" in operation["op_name"]:
            name = known.get(np.ascontiguousarray(interpreter.get_tensor(operation["inputs"][1])).tobytes())
            if name is not None:
                found[details[operation["outputs"][0]]] = name
    return found


def matching_tensors(layers: list[Layer], names: dict[str, str], patterns: list[str]) -> list[str]:
    """Tensors of the convolutions that somebody asked to keep in float, and of the activations after them.

    A pattern that finds nothing is an error.
    """
    found: set[str] = set()
    for pattern in patterns:
        matches = [tensor for tensor, name in names.items() if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            candidates = sorted(names.values())
            raise RefusalError(
                f"--keep-float {pattern!r} matches no layer; they have names such as "
                f"{', '.join(repr(name) for name in candidates[:: max(1, len(candidates) // 3)][:3])}"
            )
        found.update(matches)
    for layer in layers:  # in the order of work: SiLU is a LOGISTIC and then a MUL
        if layer.kind in ("LOGISTIC", "MUL") and found.intersection(layer.inputs):
            found.update(layer.outputs)
    return sorted(found)


def open_interpreter(model: bytes, *, keep: bool = False) -> Any:
    """A file as it is, run by the built-in kernels, so that every tensor can be looked at."""
    import tensorflow as tf

    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(
        model_content=model, experimental_op_resolver_type=resolver, experimental_preserve_all_tensors=keep
    )
    interpreter.allocate_tensors()
    return interpreter
