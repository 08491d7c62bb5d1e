"""A SavedModel to a TensorFlow Lite file: float32, float16, or integers with ranges from pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .layer_errors import layer_errors, to_input
from .layers import decoding_tail, matching_tensors, name_convolutions, read_layers

LAYER_IMAGES = 4


def convert_float(folder: Path, *, half: bool = False) -> bytes:
    """Floats inside and at the ends; with ``half``, weights of two bytes."""
    converter = _converter(folder)
    if half:
        import tensorflow as tf

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    model: bytes = converter.convert()
    return model


def convert_integer(
    folder: Path, job: dict[str, Any], pictures: Any, step: Callable[[str], None]
) -> tuple[bytes, dict[str, Any]]:
    """Integers inside, ranges from pictures. Either everything, with integer ends; or not the decoding."""
    import tensorflow as tf

    def calibration() -> Iterator[list[Any]]:
        for number, picture in enumerate(pictures):
            if number % 10 == 0:
                step(f"calibrating, picture {number + 1} of {len(pictures)}")
            yield [to_input(picture)]

    exact = convert_float(folder)
    names = name_convolutions(exact, Path(job["onnx"]))
    converter = _converter(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = calibration
    if job["int8_io"]:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        model, floating = converter.convert(), []
    else:
        layers = read_layers(exact)
        floating = sorted({*decoding_tail(layers), *matching_tensors(layers, names, job["keep_float"])})
        model = _partly_integer(folder, converter, calibration, floating)
    step("comparing layers")
    errors = layer_errors(exact, model, names, pictures[:: max(1, len(pictures) // LAYER_IMAGES)][:LAYER_IMAGES])
    return model, {"float_tensors": len(floating), "layer_errors": errors}


def _partly_integer(folder: Path, converter: Any, calibration: Callable[[], Any], floating: list[str]) -> bytes:
    """Quantise all but the named layers; TensorFlow has this in its debugger only."""
    import tensorflow as tf

    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=floating)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=calibration, debug_options=options
    )
    model: bytes = debugger.get_nondebug_quantized_model()
    return model


def _converter(folder: Path) -> Any:
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"])
