"""ONNX to a SavedModel, with onnx2tf; and on to TensorFlow Lite where that is asked for."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .tflite import convert_float, convert_integer

SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"
"""What onnx2tf would fetch from the network to try its conversion on, if it did not find it in its folder."""
INPUT = "images"
TOOLS = ("tensorflow", "onnx2tf", "onnx", "numpy")


def convert(job: dict[str, Any], pictures: Any, step: Callable[[str], None]) -> dict[str, Any]:
    """Make the file or folder ``job["output"]``; return facts about it."""
    step("loading TensorFlow")
    import numpy as np
    import onnx2tf

    generator = np.random.default_rng(0)
    np.save(SAMPLE, generator.random((20, 128, 128, 3), dtype=np.float32))
    step("ONNX to TensorFlow")
    onnx2tf.convert(
        input_onnx_file_path=job["onnx"],
        output_folder_path="saved_model",
        output_signaturedefs=True,
        copy_onnx_input_output_names_to_tflite=False,
        non_verbose=True,
        verbosity="error",
    )
    facts: dict[str, Any] = {"versions": {name: importlib.metadata.version(name) for name in TOOLS}}
    folder, output = Path("named_model"), Path(job["output"])
    _name_outputs(Path("saved_model"), folder, _outputs(Path(job["onnx"])))
    if job["format"] == "saved_model":
        shutil.move(folder, output)
        return facts
    quantization = job["quantization"]
    step(f"TensorFlow to TensorFlow Lite, {'float32' if quantization == 'none' else quantization}")
    if quantization == "int8":
        model, more = convert_integer(folder, job, pictures, step)
        facts |= more
    else:
        model = convert_float(folder, half=quantization == "fp16")
    output.write_bytes(model)
    return facts


def _outputs(source: Path) -> list[str]:
    import onnx

    return [value.name for value in onnx.load(source).graph.output]


def _name_outputs(folder: Path, named: Path, names: list[str]) -> None:
    """Write a SavedModel again whose outputs have the names of the ONNX graph; onnx2tf counts: ``output_0``, ..."""
    import tensorflow as tf

    module = tf.Module()
    module.model = tf.saved_model.load(str(folder))
    run = module.model.signatures["serving_default"]
    entry = run.structured_input_signature[1][INPUT]

    def call(images: Any) -> dict[str, Any]:
        found = run(**{INPUT: images})
        return {name: found[key] for name, key in zip(names, sorted(found), strict=True)}

    module.run = tf.function(call, input_signature=[tf.TensorSpec(entry.shape, entry.dtype, name=INPUT)])
    tf.saved_model.save(module, str(named), signatures={"serving_default": module.run})
