"""Running an exported ONNX file with onnxruntime on the CPU."""

from __future__ import annotations

import math
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # ships no types
from numpy.typing import NDArray

from yolo.export.backends.base import ExportError
from yolo.export.metadata import read_properties

_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


class OnnxRuntime:
    """An ONNX detector; see :class:`yolo.export.runtimes.base.Runtime`.

    Args:
        path: the file.
        threads: of onnxruntime; default: its own choice.

    Attributes:
        class_names: from the file's metadata, else numbers.
        image_size: (width, height), from the input's shape.
        dynamic_batch: whether the first axis of the input is open.
        metadata: everything that the file says about itself.
        threads: as given.

    Raises:
        ExportError: the file is not there, is no ONNX, or is no detector of the documented form.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ExportError(f"{str(self.path)!r} does not exist")
        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; they come as exceptions
        if threads:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            reason = " ".join(str(error).split())[:300]
            raise ExportError(f"{str(self.path)!r} cannot be loaded by onnxruntime: {reason}") from error
        self._input, batch, self.image_size = self._read_input()
        self._batch = batch if isinstance(batch, int) else None
        self.dynamic_batch = self._batch is None
        self.metadata: dict[str, Any] = read_properties(self._session.get_modelmeta().custom_metadata_map)
        self.class_names = self._read_names()

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict; see :meth:`yolo.export.runtimes.base.Runtime.predict`."""
        width, height = self.image_size
        if images.ndim != 4 or images.shape[1:] != (3, height, width) or not len(images):
            raise ExportError(
                f"{str(self.path)!r} takes images [batch, 3, {height}, {width}], not {list(images.shape)}"
            )
        images = np.ascontiguousarray(images, dtype=np.float32)
        step = self._batch or len(images)
        count, missing = len(images), -len(images) % step
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.float32)])
        parts = [
            self._session.run(None, {self._input: images[start : start + step]})[0]
            for start in range(0, len(images), step)
        ]
        return np.concatenate(parts)[:count]

    @cached_property
    def parameters(self) -> int:
        """Numbers in the weights and biases of the file's layers."""
        import onnx

        graph = onnx.load(self.path, load_external_data=False).graph
        sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
        used = {name for node in graph.node if node.op_type in _LAYERS for name in node.input}
        return sum(sizes[name] for name in used & sizes.keys())

    def _read_input(self) -> tuple[str, int | str | None, tuple[int, int]]:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        fixed = len(shape) == 4 and shape[1] == 3 and all(isinstance(side, int) for side in shape[2:])
        if not fixed or not outputs or len(outputs[0].shape) != 3 or inputs[0].type != "tensor(float)":
            found = [f"{value.name} {value.shape}" for value in (*inputs, *outputs)]
            raise ExportError(
                f"{str(self.path)!r} is no detector that can be run here: it needs one float32 input [batch, 3, H, W] "
                f"with fixed H and W, and an output [batch, 4 + classes, anchors]; it has {', '.join(found)}"
            )
        return inputs[0].name, shape[0], (shape[3], shape[2])

    def _read_names(self) -> tuple[str, ...]:
        names = self.metadata.get("class_names")
        if isinstance(names, list):
            return tuple(map(str, names))
        rows = self._session.get_outputs()[0].shape[1]
        return tuple(str(number) for number in range(rows - 4)) if isinstance(rows, int) else ()
