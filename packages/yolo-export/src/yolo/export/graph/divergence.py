"""Which layer of an ONNX file is the first with another result than the network that it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # ships no types
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yolo.export.graph.deploy import DeployModule
from yolo.export.metadata import INPUT_NAME

#: Outputs that are added in one go; more take more memory.
_AT_ONCE = 24
#: What rounding explains of the size of a layer's result.
ALLOWED = {"float32": 1e-3, "float16": 5e-2}


def first_divergence(path: Path, module: DeployModule, image: NDArray[np.float32], *, allowed: float) -> str | None:
    """Compare the results of all convolutions, in the order of the graph; a convolution is known by its weights' name.

    Args:
        path: the file.
        module: the network that was traced.
        image: float32 ``[3, H, W]``.
        allowed: difference of a result that counts as equal, as a share of its root mean square.

    Returns:
        What to tell about the first one that differs, or None where none does or nothing can be compared.
    """
    model = onnx.load(path)
    layers = dict(module.named_modules())
    convolutions = (
        (node.input[1].removesuffix(".weight"), node.output[0])
        for node in model.graph.node
        if node.op_type == "Conv" and isinstance(layers.get(node.input[1].removesuffix(".weight")), nn.Conv2d)
    )
    while part := list(islice(convolutions, _AT_ONCE)):
        expected = _results_of_network(module, [name for name, _ in part], image)
        for name, found in _results_of_file(model, part, image):
            wanted = expected[name]
            size = float(np.sqrt(np.mean(np.square(wanted)))) or 1.0
            difference = _difference(found, wanted) / size
            if not difference <= allowed:
                return f"the first layer with another result is '{name}' (off by {difference:.2g} of its size)"
    return None


def _difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.sqrt(np.mean(np.square(found - wanted))))


def _results_of_file(
    model: onnx.ModelProto, part: list[tuple[str, str]], image: NDArray[np.float32]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Run a copy of the file with more outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=tensor) for _, tensor in part)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run([tensor for _, tensor in part], {INPUT_NAME: image[None]})
    for (name, _), result in zip(part, results, strict=True):
        yield name, result.astype(np.float32)


@torch.inference_mode()
def _results_of_network(
    module: DeployModule, names: list[str], image: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    results: dict[str, NDArray[np.float32]] = {}

    def keep(name: str, layer: nn.Module, inputs: object, output: Tensor) -> None:
        results[name] = output.numpy()

    hooks = [module.get_submodule(name).register_forward_hook(partial(keep, name)) for name in names]
    try:
        module(torch.from_numpy(image[None]))
    finally:
        for hook in hooks:
            hook.remove()
    return results
