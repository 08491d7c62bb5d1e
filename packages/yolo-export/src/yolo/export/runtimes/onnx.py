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
from yolo.export.metadata import NMS_NAME, read_properties
from yolo.export.runtimes.base import in_batches, require_images

_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


class OnnxRuntime:
    """An ONNX detector; see :class:`yolo.export.runtimes.base.Runtime`.

    Args:
        path: the file.
        threads: of onnxruntime; default: its own choice.

    Attributes:
        class_names: from the file's metadata, else numbers.
        image_size: (width, height), from the input's shape; of a file for any size, that which it was exported at.
        dynamic_batch: whether the first axis of the input is open.
        dynamic_size: whether height and width are.
        stride: of which they then are multiples.
        has_nms: whether there is a second output with finished detections.
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
        # Else its threads stay busy for up to 50 ms after a run, waiting for the next, on the cores that then read the
        # next picture: with two of them, a picture takes a third longer.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if threads:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            reason = " ".join(str(error).split())[:300]
            raise ExportError(f"{str(self.path)!r} cannot be loaded by onnxruntime: {reason}") from error
        self.metadata: dict[str, Any] = read_properties(self._session.get_modelmeta().custom_metadata_map)
        self._input, batch, self.image_size, self.dynamic_size = self._read_input()
        self._batch = batch if isinstance(batch, int) else None
        self.dynamic_batch = self._batch is None
        self.class_names = self._read_names()
        self.stride = max(self.metadata.get("strides", [32]))
        outputs = [value.name for value in self._session.get_outputs()]
        self._output, self.has_nms = outputs[0], NMS_NAME in outputs[1:]

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict; see :meth:`yolo.export.runtimes.base.Runtime.predict`."""
        require_images(images, self.path, self.image_size, step=self.stride if self.dynamic_size else None)
        return in_batches(self._run, images, self._batch)

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = self._session.run([self._output], {self._input: images})[0]
        return output

    def detect(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Finished detections, of a file whose :attr:`has_nms` is true.

        Args:
            image: ``[1, 3, H, W]``, RGB from 0 to 1.

        Returns:
            ``[n, 6]``: x1, y1, x2, y2 in pixels of the input, score, class; best score first.
        """
        require_images(image, self.path, self.image_size, step=self.stride if self.dynamic_size else None)
        found: NDArray[np.float32] = self._session.run([NMS_NAME], {self._input: image})[0]
        return found

    @cached_property
    def parameters(self) -> int:
        """Numbers in the weights and biases of the file's layers."""
        import onnx

        graph = onnx.load(self.path, load_external_data=False).graph
        sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
        used = {name for node in graph.node if node.op_type in _LAYERS for name in node.input}
        return sum(sizes[name] for name in used & sizes.keys())

    def _read_input(self) -> tuple[str, int | str | None, tuple[int, int], bool]:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        sides = shape[2:] if len(shape) == 4 and shape[1] == 3 else []
        told: Any = self.metadata.get("image_size")
        fixed = bool(sides) and all(isinstance(side, int) for side in sides)
        is_open = bool(sides) and not fixed and isinstance(told, list) and len(told) == 2
        known = fixed or is_open
        if not known or not outputs or len(outputs[0].shape) != 3 or inputs[0].type != "tensor(float)":
            found = [f"{value.name} {value.shape}" for value in (*inputs, *outputs)]
            raise ExportError(
                f"{str(self.path)!r} is no detector that can be run here: it needs one float32 input [batch, 3, H, W] "
                f"with fixed H and W (open ones in files of ours), and an output [batch, 4 + classes, anchors]; it has "
                f"{', '.join(found)}"
            )
        size = (shape[3], shape[2]) if fixed else (int(told[0]), int(told[1]))
        return inputs[0].name, shape[0], size, is_open

    def _read_names(self) -> tuple[str, ...]:
        names = self.metadata.get("class_names")
        if isinstance(names, list):
            return tuple(map(str, names))
        rows = self._session.get_outputs()[0].shape[1]
        return tuple(str(number) for number in range(rows - 4)) if isinstance(rows, int) else ()
