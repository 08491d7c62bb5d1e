"""float16 inside an ONNX graph, float32 at its ends and in the decoding."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from onnx import NodeProto
from onnxconverter_common import float16  # type: ignore[import-untyped]  # ships no types


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose weights and arithmetic up to the last convolutions are float16.

    Decoding stays float32: above 512, float16 knows only every half pixel. So the graph is cut after the last
    convolutions, and what was cut off is put back behind the converted part.
    """
    typed = onnx.shape_inference.infer_shapes(model).graph.value_info
    decoding = decoding_nodes(model)
    kept = {name for node in decoding for name in node.input}
    ours = {name for node in decoding for name in node.output}

    body = onnx.ModelProto()
    body.CopyFrom(model)
    nodes = [node for node in model.graph.node if not ours.intersection(node.output)]
    border = kept.intersection(name for node in nodes for name in node.output)
    _replace(body.graph.node, nodes)
    for number, node in enumerate(body.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"  # nodes are told apart by their names
    _replace(body.graph.output, [value for value in typed if value.name in border])
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    _replace(body.graph.initializer, constants)
    shared = {tensor.name for tensor in constants} & kept

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each weight that is nearly zero
        half: onnx.ModelProto = float16.convert_float_to_float16(body, keep_io_types=True)

    del half.graph.value_info[:]  # some are still those of before
    half.graph.node.extend(_with_own_constants(decoding, shared))
    for tensor in model.graph.initializer:
        if tensor.name in kept:
            half.graph.initializer.add().CopyFrom(tensor)
            half.graph.initializer[-1].name = _own(tensor.name, shared)
    _replace(half.graph.output, list(model.graph.output))
    return half


def decoding_nodes(model: onnx.ModelProto) -> list[NodeProto]:
    """The nodes that no convolution comes after, in their order."""
    before: set[str] = set()  # tensors that some convolution depends on
    found = []
    for node in reversed(model.graph.node):
        if node.op_type == "Conv" or before.intersection(node.output):
            before.update(node.input)
        else:
            found.append(node)
    return found[::-1]


def _with_own_constants(nodes: Iterable[NodeProto], shared: set[str]) -> Iterable[NodeProto]:
    """Copies that read their own copies of the constants that both parts have."""
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        _replace(copy.input, [_own(name, shared) for name in node.input])
        yield copy


def _own(name: str, shared: set[str]) -> str:
    return f"decoding/{name}" if name in shared else name


def _replace(entries: Any, values: Sequence[Any]) -> None:
    """Fill a repeated field of a message."""
    del entries[:]
    entries.extend(values)
