"""How much of a TensorFlow Lite file the CPU delegate, XNNPACK, takes. Needs LiteRT only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ai_edge_litert.interpreter import Interpreter

_DELEGATE = "DELEGATE"


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """What a delegate takes of a graph.

    Attributes:
        nodes: of the file.
        partitions: connected parts that the delegate runs; between them data goes back and forth.
        left: kinds of the nodes that it does not take, one entry per node.
    """

    nodes: int
    partitions: int
    left: tuple[str, ...]


def count_delegated(path: str | os.PathLike[str]) -> Delegation:
    """Load a file and look at its plan."""
    interpreter = Interpreter(model_path=os.fspath(path), num_threads=1)
    interpreter.allocate_tensors()
    return read_plan(interpreter._get_ops_details())


def read_plan(operations: Sequence[dict[str, Any]]) -> Delegation:
    """Tell which nodes a delegate covers: those on the way back from its outputs to its inputs.

    Args:
        operations: of an interpreter after allocation: the nodes of the file, then one ``DELEGATE`` per partition, each
            with ``op_name``, ``inputs`` and ``outputs``.
    """
    nodes = [operation for operation in operations if operation["op_name"] != _DELEGATE]
    partitions = [operation for operation in operations if operation["op_name"] == _DELEGATE]
    producer = {int(tensor): index for index, node in enumerate(nodes) for tensor in node["outputs"]}
    covered: set[int] = set()
    for partition in partitions:
        known = {int(tensor) for tensor in partition["inputs"]}
        waiting = [int(tensor) for tensor in partition["outputs"]]
        while waiting:
            tensor = waiting.pop()
            index = producer.get(tensor)
            if tensor in known or index is None:
                continue
            known.add(tensor)
            covered.add(index)
            waiting += [int(source) for source in nodes[index]["inputs"]]
    left = tuple(str(node["op_name"]) for index, node in enumerate(nodes) if index not in covered)
    return Delegation(nodes=len(nodes), partitions=len(partitions), left=left)
