"""Detect objects with an ONNX model: needs onnxruntime, numpy and opencv-python, and nothing of what trained it.

python onnx_inference.py --image photo.jpg --output boxes.jpg
python onnx_inference.py --self-check
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from command import RunError, main

try:
    import onnxruntime
except ImportError as error:
    sys.exit(f"Error: {error}; pip install -r requirements.txt")


class OnnxModel:
    """See ``command.Model``."""

    def __init__(self, path: Path, spec: dict[str, Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise RunError(f"{path} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
        given, outputs = self.session.get_inputs()[0], self.session.get_outputs()
        returned = next((one for one in outputs if one.name == "output0"), outputs[0])
        self.lines = [f"Input: {given.name} {given.shape}", f"Output: {returned.name} {returned.shape}"]
        self.input, self.output = given.name, returned.name
        fixed = len(given.shape) == 4 and all(isinstance(side, int) for side in given.shape[2:])
        self.size = (given.shape[3], given.shape[2]) if fixed else None
        self.batch = given.shape[0] if isinstance(given.shape[0], int) else 1
        told = self.session.get_modelmeta().custom_metadata_map
        self.names = [str(name) for name in json.loads(told.get("class_names", "[]"))]
        self.step = max(json.loads(told.get("strides", "[32]")))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """See ``command.Model``."""
        images = np.repeat(images, self.batch, axis=0)
        return np.asarray(self.session.run([self.output], {self.input: images})[0][:1], np.float32)


if __name__ == "__main__":
    sys.exit(main(OnnxModel, __doc__.splitlines()[0]))
