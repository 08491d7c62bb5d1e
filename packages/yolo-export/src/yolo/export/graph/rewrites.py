"""Other nodes for the same function: what TensorFlow Lite's CPU delegate (XNNPACK) can run without leaving it.

Every rewrite keeps the values of the graph, up to the order in which floats are added, and takes ONNX nodes that the
delegate knows: XNNPACK has no nearest-neighbour resizing, and no quantised average pooling of stride 1. Written from
the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from yolo.export.backends.base import ExportError


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Where the output of a detector comes from.

    Attributes:
        logits: tensor ``[B, 4 * bins, A]``, one distribution for each of left, top, right and bottom.
        scores: tensor ``[B, classes, A]``, probabilities.
        bins: of a distribution.
    """

    logits: str
    scores: str
    bins: int


class Graph:
    """A model with its nodes found by what they read and write. Editing goes through :meth:`replace`."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.nodes = model.graph.node
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def producer(self, name: str) -> NodeProto | None:
        """The node that writes a tensor; None for inputs and constants."""
        return next((node for node in self.nodes if name in node.output), None)

    def consumers(self, name: str) -> list[NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if name in node.input]

    def only_consumer(self, name: str, kind: str) -> NodeProto | None:
        """The node that reads a tensor, if it is the only one, of that kind."""
        found = self.consumers(name)
        return found[0] if len(found) == 1 and found[0].op_type == kind else None

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The value of a tensor that does not depend on the input; None for others."""
        if name in self._constants:
            return numpy_helper.to_array(self._constants[name])
        node = self.producer(name)
        if node is None or node.op_type not in ("Constant", "Identity"):
            return None
        if node.op_type == "Identity":
            return self.constant(node.input[0])
        return next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), None)

    def add_constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Store a constant under a name that is free; return the name."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
        self.model.graph.initializer.append(tensor)
        self._constants[name] = tensor
        return name

    def replace(self, old: Iterable[NodeProto], new: Iterable[NodeProto]) -> None:
        """Put new nodes in the place of the last of the old ones."""
        gone = {node.output[0] for node in old}
        nodes: list[NodeProto] = []
        place = 0
        for node in self.nodes:
            if node.output[0] in gone:
                place = len(nodes)
            else:
                nodes.append(node)
        nodes[place:place] = new
        kept = onnx.GraphProto(node=nodes).node
        del self.nodes[:]
        self.nodes.extend(kept)


def rewrite_for_xnnpack(model: ModelProto) -> dict[str, int]:
    """Apply all rewrites of this module to a model, in place.

    Returns:
        How often each was applied, by the name of its function.
    """
    graph = Graph(model)
    return {rewrite.__name__: rewrite(graph) for rewrite in REWRITES}


def distribution_as_convolution(graph: Graph) -> int:
    """The mean of a distribution as a 1x1 convolution: softmax, times the bins, summed, is a fixed weighted sum."""
    count = 0
    for softmax in [node for node in graph.nodes if node.op_type == "Softmax"]:
        found = _distribution(graph, softmax)
        if found is None:
            continue
        product, total, bins, anchors = found
        name, sides = total.output[0], 4
        weight = np.kron(np.eye(sides, dtype=np.float32), bins[None]).reshape(sides, sides * len(bins), 1, 1)
        shapes = {
            "columns": np.array([-1, sides * len(bins), anchors, 1], np.int64),
            "distances": np.array([-1, sides, anchors], np.int64),
        }
        constants = {key: graph.add_constant(f"{name}/{key}", value) for key, value in shapes.items()}
        constants["weight"] = graph.add_constant(f"{name}/weight", weight)
        graph.replace(
            [product, total],
            [
                helper.make_node("Reshape", [softmax.output[0], constants["columns"]], [f"{name}/in"], f"{name}/flat"),
                helper.make_node("Conv", [f"{name}/in", constants["weight"]], [f"{name}/out"], f"{name}/mean"),
                helper.make_node("Reshape", [f"{name}/out", constants["distances"]], [name], f"{name}/sides"),
            ],
        )
        count += 1
    return count


def upsample_as_depth_to_space(graph: Graph) -> int:
    """Nearest-neighbour doubling as four copies side by side in the channels, moved to the four pixels of a square."""
    count = 0
    for node in [node for node in graph.nodes if node.op_type == "Resize"]:
        scales = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if scales is None or scales.tolist() != [1, 1, 2, 2] or not _is_plain_nearest(node):
            continue
        name, copies = node.output[0], f"{node.output[0]}/copies"
        graph.replace(
            [node],
            [
                helper.make_node("Concat", [node.input[0]] * 4, [copies], f"{node.name or name}/copies", axis=1),
                helper.make_node("DepthToSpace", [copies], [name], node.name or name, blocksize=2, mode="DCR"),
            ],
        )
        count += 1
    return count


def average_pool_as_convolution(graph: Graph) -> int:
    """The mean of a window of fixed size, without a border, as a depthwise convolution with equal weights."""
    channels = _channels(graph.model)
    count = 0
    for node in [node for node in graph.nodes if node.op_type == "AveragePool"]:
        settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        window = list(settings["kernel_shape"])
        width = channels.get(node.input[0])
        plain = (
            not any(settings.get("pads", ()))
            and not settings.get("ceil_mode", 0)
            and settings.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
            and set(settings.get("dilations", (1,))) == {1}
        )
        if not plain or width is None:
            continue
        size = int(np.prod(window))
        weight = graph.add_constant(
            f"{node.output[0]}/weight", np.full((width, 1, *window), np.float32(1) / np.float32(size), np.float32)
        )
        strides = list(settings.get("strides", [1] * len(window)))
        convolution = helper.make_node(
            "Conv",
            [node.input[0], weight],
            list(node.output),
            node.name,
            group=width,
            kernel_shape=window,
            strides=strides,
        )
        graph.replace([node], [convolution])
        count += 1
    return count


REWRITES: tuple[Callable[[Graph], int], ...] = (
    distribution_as_convolution,
    upsample_as_depth_to_space,
    average_pool_as_convolution,
)


def find_raw(model: ModelProto) -> Raw:
    """Find the raw predictions behind the one output of a detector.

    Raises:
        ExportError: a head without distributions, such as YOLOv7's.
    """
    graph = Graph(model)
    last = graph.producer(model.graph.output[0].name)
    softmaxes = [node for node in graph.nodes if node.op_type == "Softmax"]
    found = [_distribution(graph, node) for node in softmaxes]
    if len(softmaxes) != 1 or found[0] is None or last is None or last.op_type != "Concat":
        raise ExportError(
            "this network's head does not predict box sides as distributions, so its boxes cannot be kept apart from "
            "the decoding: leave --int8-io out"
        )
    reshape = graph.producer(softmaxes[0].input[0])
    assert reshape is not None  # _distribution has seen it
    return Raw(logits=reshape.input[0], scores=last.input[-1], bins=len(found[0][2]))


def keep_raw(model: ModelProto, raw: Raw, *, classes: int, anchors: int, names: tuple[str, str]) -> None:
    """Make the raw predictions the outputs of a model, in place, and drop the decoding.

    Args:
        model: with one decoded output.
        raw: from :func:`find_raw`.
        classes: of the network.
        anchors: predictions of the network.
        names: of the two outputs, logits ``[1, 4 * bins, A]`` and scores ``[1, classes, A]``.
    """
    sides = 4 * raw.bins, classes
    del model.graph.output[:]
    for name, source, rows in zip(names, (raw.logits, raw.scores), sides, strict=True):
        model.graph.node.append(helper.make_node("Identity", [source], [name], name))
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, rows, anchors]))
    _drop_unused(model)


def _distribution(graph: Graph, softmax: NodeProto) -> tuple[NodeProto, NodeProto, NDArray[np.float32], int] | None:
    """The nodes after a softmax that make it a mean, the values of the bins, and the number of anchors."""
    reshape = graph.producer(softmax.input[0])
    product = graph.only_consumer(softmax.output[0], "Mul")
    if reshape is None or reshape.op_type != "Reshape" or product is None:
        return None
    shape = graph.constant(reshape.input[1])
    bins = next((value for name in product.input if (value := graph.constant(name)) is not None), None)
    total = graph.only_consumer(product.output[0], "ReduceSum")
    if shape is None or shape.shape != (4,) or bins is None or total is None:
        return None
    if shape[1] != 4 or bins.size != shape[2] or bins.squeeze().ndim != 1:
        return None
    return product, total, np.asarray(bins, np.float32).reshape(-1), int(shape[3])


def _is_plain_nearest(node: NodeProto) -> bool:
    """Whether a Resize repeats pixels: for a factor of two these settings do."""
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    where = settings.get("coordinate_transformation_mode", b"half_pixel")
    return bool(
        settings.get("mode", b"nearest") == b"nearest"
        and where == b"asymmetric"
        and settings.get("nearest_mode", b"round_prefer_floor") == b"floor"
    )


def _channels(model: ModelProto) -> dict[str, int]:
    """Channels of every tensor whose shape can be inferred."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        sides = value.type.tensor_type.shape.dim
        if len(sides) > 1 and sides[1].dim_value:
            found[value.name] = sides[1].dim_value
    return found


def _drop_unused(model: ModelProto) -> None:
    """Remove nodes and constants that no output needs."""
    needed = {value.name for value in model.graph.output}
    for index in range(len(model.graph.node) - 1, -1, -1):
        node = model.graph.node[index]
        if needed.isdisjoint(node.output):
            del model.graph.node[index]
        else:
            needed.update(node.input)
    used = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(used)
