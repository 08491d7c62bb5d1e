"""Running a TensorFlow Lite file with LiteRT on the CPU; TensorFlow is not needed."""

from __future__ import annotations

import json
import os
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from yolo.export.backends.base import ExportError
from yolo.export.runtimes.base import require_images
from yolo.export.runtimes.distributions import FORM, LOGITS, SCORES, decode_distributions

METADATA_FILE = "metadata.json"
"""What our files have at their end, in a ZIP archive."""
_LAYERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}


class LiteRtRuntime:
    """A TensorFlow Lite detector; see :class:`yolo.export.runtimes.base.Runtime`.

    Inputs and outputs may be float32 or integers with a scale; a file of distributions (``--int8-io``) is decoded here.

    Args:
        path: the file.
        threads: default: the processors that this process may use.

    Attributes:
        class_names: from the file's metadata, else numbers.
        image_size: (width, height), from the input's shape.
        dynamic_batch: False.
        metadata: what the file says about itself.
        threads: that it computes with.

    Raises:
        ExportError: the file is not there, is no TensorFlow Lite, or is no detector of a documented form.
    """

    dynamic_batch = False

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ExportError(f"{str(self.path)!r} does not exist")
        self.threads = threads or available_processors()
        try:
            self._interpreter = Interpreter(model_path=str(self.path), num_threads=self.threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ExportError(f"{str(self.path)!r} cannot be loaded by LiteRT: {reason}") from error
        self.metadata = _read_metadata(self.path)
        self._input, self._outputs = self._find_tensors()
        self.image_size = int(self._input["shape"][2]), int(self._input["shape"][1])
        self.class_names = self._read_names()

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict, image by image; see :meth:`yolo.export.runtimes.base.Runtime.predict`."""
        require_images(images, self.path, self.image_size)
        return np.concatenate([self._run(image) for image in images])

    def describe(self) -> dict[str, Any]:
        """What input and outputs are, as plain data: name, shape, type and, for integers, scale and zero point."""
        outputs = {name: _described(name, entry) for name, entry in self._outputs.items()}
        if len(outputs) == 1:
            return {
                "input": {**_described("images", self._input), "layout": "NHWC"},
                "output": next(iter(outputs.values())),
            }
        return {
            "input": {**_described("images", self._input), "layout": "NHWC"},
            "output": {"form": FORM, "bins": int(self._outputs[LOGITS]["shape"][1]) // 4, **outputs},
        }

    @cached_property
    def parameters(self) -> int:
        """Numbers in the weights and biases of the file's layers."""
        shapes = {entry["index"]: entry["shape"] for entry in self._interpreter.get_tensor_details()}
        used = {
            int(index)
            for operation in self._interpreter._get_ops_details()
            if operation["op_name"] in _LAYERS
            for index in operation["inputs"][1:3]
            if index in shapes
        }
        return sum(int(np.prod(shapes[index])) for index in used)

    def _run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """One image ``[3, H, W]`` to ``[1, 4 + classes, A]``."""
        picture = np.ascontiguousarray(image.transpose(1, 2, 0)[None], dtype=np.float32)
        self._interpreter.set_tensor(self._input["index"], _to_type(picture, self._input))
        self._interpreter.invoke()
        found = {
            name: _to_float(self._interpreter.get_tensor(entry["index"]), entry)
            for name, entry in self._outputs.items()
        }
        if len(found) == 1:
            return next(iter(found.values()))
        return decode_distributions(
            found[LOGITS], found[SCORES], image_size=self.image_size, strides=self.metadata["strides"]
        )

    def _find_tensors(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The input, and the outputs by name."""
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shape = list(inputs[0]["shape"]) if len(inputs) == 1 else []
        named = self._named_outputs()
        decoded = len(outputs) == 1 and len(outputs[0]["shape"]) == 3
        raw = set(named) == {LOGITS, SCORES} and "strides" in self.metadata
        if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or not (decoded or raw):
            found = [f"{entry['name']} {list(map(int, entry['shape']))}" for entry in (*inputs, *outputs)]
            raise ExportError(
                f"{str(self.path)!r} is no detector that can be run here: it needs one input [1, H, W, 3] and an "
                f"output [1, 4 + classes, anchors], or those of --int8-io and their metadata; it has {', '.join(found)}"
            )
        return inputs[0], named if raw else {"output0": outputs[0]}

    def _named_outputs(self) -> dict[str, dict[str, Any]]:
        """The outputs by their names in the signature: their order is not that of the ONNX graph."""
        signatures = self._interpreter.get_signature_list()
        if not signatures:
            return {}
        key = "serving_default" if "serving_default" in signatures else next(iter(signatures))
        named: dict[str, dict[str, Any]] = self._interpreter.get_signature_runner(key).get_output_details()
        return dict(named)

    def _read_names(self) -> tuple[str, ...]:
        names = self.metadata.get("class_names")
        if isinstance(names, list):
            return tuple(map(str, names))
        rows = int(next(iter(self._outputs.values()))["shape"][1])
        return tuple(map(str, range(rows - 4)))


def available_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_metadata(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            if METADATA_FILE not in archive.namelist():
                return {}
            found = json.loads(archive.read(METADATA_FILE))
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise ExportError(f"{str(path)!r}: the description at its end is damaged: {error}") from error
    return found if isinstance(found, dict) else {}


def _described(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": name,
        "shape": [int(side) for side in entry["shape"]],
        "dtype": entry["dtype"].__name__,
    }
    scale, zero = entry["quantization"]
    return {**told, "scale": float(scale), "zero_point": int(zero)} if scale else told


def _to_type(values: NDArray[np.float32], entry: dict[str, Any]) -> NDArray[Any]:
    """Numbers as a tensor wants them."""
    scale, zero = entry["quantization"]
    if not scale:
        return values.astype(entry["dtype"], copy=False)
    limits = np.iinfo(entry["dtype"])
    whole: NDArray[Any] = np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(entry["dtype"])
    return whole


def _to_float(values: NDArray[Any], entry: dict[str, Any]) -> NDArray[np.float32]:
    """What the numbers of a tensor mean."""
    scale, zero = entry["quantization"]
    if not scale:
        return values.astype(np.float32, copy=False)
    return ((values.astype(np.float32) - np.float32(zero)) * np.float32(scale)).astype(np.float32)
