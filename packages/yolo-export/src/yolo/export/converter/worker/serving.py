"""A SavedModel that is run on pictures, for as long as somebody sends some."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .errors import RefusalError

OUTPUT = "output0"


def serve(folder: Path, answers: BinaryIO, tell: Callable[..., None]) -> None:
    """Run a SavedModel on pictures until standard input ends.

    Each request is a line ``{"shape": [B, H, W, 3]}`` and the numbers, float32; the answer is a line
    ``{"shape": [B, 4 + classes, A]}`` and the numbers, or an error.
    """
    import numpy as np
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder)).signatures
    if "serving_default" not in signatures:
        raise RefusalError("the SavedModel has no signature 'serving_default'")
    run = signatures["serving_default"]
    inputs = run.structured_input_signature[1]
    if len(inputs) != 1:
        raise RefusalError(f"the SavedModel takes {len(inputs)} inputs, not one")
    name, entry = next(iter(inputs.items()))
    tell(ready={"input": name, "shape": entry.shape.as_list(), "outputs": sorted(run.structured_outputs)})
    while line := sys.stdin.buffer.readline():
        shape = json.loads(line)["shape"]
        data = sys.stdin.buffer.read(4 * int(np.prod(shape)))
        pictures = np.frombuffer(data, np.float32).reshape(shape)
        found = run(**{name: tf.constant(pictures)})
        output = np.ascontiguousarray(found[OUTPUT if OUTPUT in found else sorted(found)[0]].numpy(), np.float32)
        tell(shape=list(output.shape))
        answers.write(output.tobytes())
        answers.flush()
