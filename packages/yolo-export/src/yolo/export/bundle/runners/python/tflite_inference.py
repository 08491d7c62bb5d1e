"""Detect objects with a TensorFlow Lite model: needs ai-edge-litert, numpy and opencv-python, and no TensorFlow.

python tflite_inference.py --image photo.jpg --output boxes.jpg
python tflite_inference.py --self-check
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from command import RunError, main

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    sys.exit(f"Error: {error}; pip install -r requirements.txt")


class TfliteModel:
    """See ``command.Model``. Integers at the input or the outputs are converted by their scale and zero point."""

    def __init__(self, path: Path, spec: dict[str, Any]) -> None:
        try:
            self.interpreter = Interpreter(model_path=str(path))
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise RunError(f"{path} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
        self.input, self.outputs = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()
        self.lines = [
            f"{kind}: {entry['name']} {entry['shape'].tolist()} {np.dtype(entry['dtype'])}"
            for kind, entry in (("Input", self.input), *(("Output", entry) for entry in self.outputs))
        ]
        self.size, self.step = (int(self.input["shape"][2]), int(self.input["shape"][1])), 1
        told = _read_metadata(path)
        self.names = told.get("class_names", [])
        self.strides = told.get("strides") or spec.get("decode", {}).get("strides")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """See ``command.Model``."""
        self.interpreter.set_tensor(self.input["index"], _to_type(images.transpose(0, 2, 3, 1), self.input))
        self.interpreter.invoke()
        if len(self.outputs) == 1:
            return self._read(self.outputs[0])
        # By name, since their order is not fixed.
        named = self.interpreter.get_signature_runner("serving_default").get_output_details()
        return decode(self._read(named["logits"]), self._read(named["scores"]), self.size, self.strides)

    def _read(self, entry: dict[str, Any]) -> np.ndarray:
        values = self.interpreter.get_tensor(entry["index"]).astype(np.float32)
        scale, zero = entry["quantization"]
        return (values - np.float32(zero)) * np.float32(scale) if scale else values


def decode(logits: np.ndarray, scores: np.ndarray, size: tuple[int, int], strides: list[int]) -> np.ndarray:
    """Boxes of a file of integers, which leaves their distributions to the caller.

    Args:
        logits: ``[1, 4 * bins, anchors]``: left, top, right, bottom; a side is its distribution's mean, in strides.
        scores: ``[1, classes, anchors]``.
        size: (width, height) of the input.
        strides: of the scales, in the order of the anchors.
    """
    anchors = logits.shape[2]
    distributions = logits.reshape(4, -1, anchors).astype(np.float64)
    weights = np.exp(distributions - distributions.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    means = (weights * np.arange(weights.shape[1])[None, :, None]).sum(axis=1)
    columns = []
    for stride in strides:
        y, x = np.mgrid[: size[1] // stride, : size[0] // stride].reshape(2, -1)
        columns.append(np.stack([(x + 0.5) * stride, (y + 0.5) * stride, np.full(x.shape, stride)]))
    grid = np.concatenate(columns, axis=1)
    before, after = means[:2] * grid[2], means[2:] * grid[2]
    boxes = np.concatenate([grid[:2] + (after - before) / 2, before + after])
    return np.concatenate([boxes[None], scores], axis=1).astype(np.float32)


def _to_type(values: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    scale, zero = entry["quantization"]
    if not scale:
        return np.ascontiguousarray(values, entry["dtype"])
    limits = np.iinfo(entry["dtype"])
    return np.clip(np.round(values / np.float32(scale)) + zero, limits.min, limits.max).astype(entry["dtype"])


def _read_metadata(path: Path) -> dict[str, Any]:
    """What the file says about itself, in an archive at its end."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("metadata.json")) if "metadata.json" in archive.namelist() else {}


if __name__ == "__main__":
    sys.exit(main(TfliteModel, __doc__.splitlines()[0]))
