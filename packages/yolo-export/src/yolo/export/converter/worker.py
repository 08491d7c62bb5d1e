"""The converter itself: ONNX in, SavedModel and TensorFlow Lite files out. Runs alone, in a process of its own.

It is started by :mod:`yolo.export.converter.process` with an interpreter that has TensorFlow and onnx2tf, and perhaps
nothing of ours; so it imports nothing of ours. Its folder is its scratch space. It is told what to do by one line of
JSON on standard input, answers with lines of JSON on standard output, and ends when standard input does: when whoever
started it is gone, so is it. Everything that libraries print goes to standard error, a log file.
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"
"""What onnx2tf would fetch from the network to try its conversion on, if it did not find it in its folder."""
INPUT, OUTPUT = "images", "output0"
LAYER_IMAGES = 4
TOOLS = ("tensorflow", "onnx2tf", "onnx", "numpy")


class RefusalError(Exception):
    """Something that the user can do something about; its text is the answer."""


def main() -> None:
    """Do what the first line says."""
    answers, log = _take_streams()
    _allow_no_network()
    job = json.loads(sys.stdin.buffer.readline())
    pictures = _read_pictures(job.get("calibration", [0]))

    def tell(**answer: Any) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    try:
        if job["task"] == "run":
            _serve(Path(job["saved_model"]), answers, tell)
        else:
            threading.Thread(target=_end_with_parent, daemon=True).start()
            tell(done=_convert(job, pictures, lambda text: tell(step=text)))
    except RefusalError as error:
        tell(error=str(error))
    except ModuleNotFoundError as error:
        tell(error=f"{sys.executable} has no module {error.name!r}; install 'yolo-export[tflite]' there (Python 3.11)")
    except BaseException as error:  # SystemExit too: onnx2tf ends the process where it gives up
        import traceback

        traceback.print_exc(file=log)
        tell(error=f"{type(error).__name__}: {_one_line(error)}")
    answers.flush()
    log.flush()
    os._exit(0)  # TensorFlow's threads may hang at an ordinary end


def _take_streams() -> tuple[BinaryIO, Any]:
    """Keep standard output for answers; what is printed by others goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers, sys.stderr


def _allow_no_network() -> None:
    """Make every attempt of a library to reach the network an error."""

    def refuse(event: str, arguments: Any) -> None:
        if event in ("socket.connect", "socket.getaddrinfo"):
            raise RefusalError("the converter tried to reach the network, which it never needs")

    sys.addaudithook(refuse)


def _read_pictures(shape: list[int]) -> Any:
    """The pictures to calibrate with, uint8, which follow the first line."""
    import numpy as np

    size = int(np.prod(shape))
    data = sys.stdin.buffer.read(size)
    if len(data) < size:  # whoever sent them is gone
        os._exit(1)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or "no reason was given"


def _convert(job: dict[str, Any], pictures: Any, step: Callable[[str], None]) -> dict[str, Any]:
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
        model, more = _integer(folder, job, pictures, step)
        facts |= more
    else:
        model = _float(folder, half=quantization == "fp16")
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


def _float(folder: Path, *, half: bool = False) -> bytes:
    converter = _converter(folder)
    if half:
        import tensorflow as tf

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    model: bytes = converter.convert()
    return model


def _converter(folder: Path) -> Any:
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"])


def _integer(
    folder: Path, job: dict[str, Any], pictures: Any, step: Callable[[str], None]
) -> tuple[bytes, dict[str, Any]]:
    """Integers inside, ranges from pictures. Either everything, with integer ends; or not the decoding."""
    import tensorflow as tf

    def calibration() -> Iterator[list[Any]]:
        for number, picture in enumerate(pictures):
            if number % 10 == 0:
                step(f"calibrating, picture {number + 1} of {len(pictures)}")
            yield [_to_input(picture)]

    exact = _float(folder)
    names = _names(exact, Path(job["onnx"]))
    converter = _converter(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = calibration
    if job["int8_io"]:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        model, floating = converter.convert(), []
    else:
        layers = _layers(exact)
        floating = sorted({*_tail(layers), *_matching(layers, names, job["keep_float"])})
        model = _partly_integer(folder, converter, calibration, floating)
    step("comparing layers")
    errors = _layer_errors(exact, model, names, pictures[:: max(1, len(pictures) // LAYER_IMAGES)][:LAYER_IMAGES])
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


class Layer:
    """One operation of a TensorFlow Lite file: its kind, and tensors by name."""

    def __init__(self, kind: str, inputs: list[str], outputs: list[str]) -> None:
        self.kind, self.inputs, self.outputs = kind, inputs, outputs


def _layers(model: bytes) -> list[Layer]:
    interpreter = _interpreter(model)
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    return [
        Layer(
            operation["op_name"],
            [names[index] for index in operation["inputs"] if index in names],
            [names[index] for index in operation["outputs"] if index in names],
        )
        for operation in interpreter._get_ops_details()
    ]


def _tail(layers: list[Layer]) -> list[str]:
    """Names of the tensors of the decoding: all after the softmax of the distributions, or else after the last layers.

    Without distributions (YOLOv7) it is what no convolution comes after.
    """
    tail: set[str] = set()
    for layer in layers:
        if layer.kind == "SOFTMAX" or tail.intersection(layer.inputs):
            tail.update(layer.outputs)
    if tail:
        return sorted(tail)
    before: set[str] = set()
    for layer in reversed(layers):
        if "CONV" in layer.kind or before.intersection(layer.outputs):
            before.update((*layer.inputs, *layer.outputs))
    return sorted(name for layer in layers for name in layer.outputs if name not in before)


def _names(model: bytes, source: Path) -> dict[str, str]:
    """The network's own names of its convolutions, by the tensors that they write; known by their weights.

    Args:
        model: a float file.
        source: the ONNX file that it was made from, whose weights have the names of the network's parameters.
    """
    import numpy as np
    import onnx

    known = {}
    for tensor in onnx.load(source).graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.ndim == 4 and "/" not in tensor.name:  # not those of rewrites
            # [out, in, height, width] there, [out, height, width, in] here
            known[value.transpose(0, 2, 3, 1).tobytes()] = tensor.name.removesuffix(".weight")
            known[value.transpose(1, 2, 3, 0).tobytes()] = tensor.name.removesuffix(".weight")  # depthwise
    interpreter = _interpreter(model)
    details = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    found = {}
    for operation in interpreter._get_ops_details():
        if "CONV_2D" in operation["op_name"]:
            name = known.get(np.ascontiguousarray(interpreter.get_tensor(operation["inputs"][1])).tobytes())
            if name is not None:
                found[details[operation["outputs"][0]]] = name
    return found


def _matching(layers: list[Layer], names: dict[str, str], patterns: list[str]) -> list[str]:
    """Tensors of the convolutions that somebody asked to keep in float, and of the activations after them.

    A pattern that finds nothing is an error.
    """
    found: set[str] = set()
    for pattern in patterns:
        matches = [tensor for tensor, name in names.items() if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            candidates = sorted(names.values())
            raise RefusalError(
                f"--keep-float {pattern!r} matches no layer; they have names such as "
                f"{', '.join(repr(name) for name in candidates[:: max(1, len(candidates) // 3)][:3])}"
            )
        found.update(matches)
    for layer in layers:  # in the order of work: SiLU is a LOGISTIC and then a MUL
        if layer.kind in ("LOGISTIC", "MUL") and found.intersection(layer.inputs):
            found.update(layer.outputs)
    return sorted(found)


def _interpreter(model: bytes, *, keep: bool = False) -> Any:
    """A file as it is, run by the built-in kernels, so that every tensor can be looked at."""
    import tensorflow as tf

    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(
        model_content=model, experimental_op_resolver_type=resolver, experimental_preserve_all_tensors=keep
    )
    interpreter.allocate_tensors()
    return interpreter


def _layer_errors(exact: bytes, rounded: bytes, names: dict[str, str], pictures: Any) -> list[list[Any]]:
    """How far each convolution's output is from the float file's: ``[name, relative error]``, in the order of work.

    The error is the root mean square of the difference over that of the float values; it adds up from layer to layer.
    """
    import numpy as np

    interpreters = [_interpreter(model, keep=True) for model in (exact, rounded)]
    details = [{tensor["name"]: tensor for tensor in each.get_tensor_details()} for each in interpreters]
    written = [tensor for layer in _layers(rounded) for tensor in layer.outputs]
    sums = {tensor: [0.0, 0.0] for tensor in written if tensor in names and tensor in details[0]}
    for picture in pictures:
        for each in interpreters:
            _feed(each, _to_input(picture))
            each.invoke()
        for tensor, total in sums.items():
            wanted, found = (_value(*pair, tensor) for pair in zip(interpreters, details, strict=True))
            total[0] += float(np.square(found - wanted).sum())
            total[1] += float(np.square(wanted).sum())
    return [[names[tensor], round((off / size) ** 0.5, 5)] for tensor, (off, size) in sums.items() if size > 0]


def _to_input(picture: Any) -> Any:
    """A picture, uint8 ``[H, W, 3]``, as the network takes it: float32 ``[1, H, W, 3]`` from 0 to 1."""
    import numpy as np

    return picture[None].astype(np.float32) / np.float32(255)


def _feed(interpreter: Any, picture: Any) -> None:
    import numpy as np

    entry = interpreter.get_input_details()[0]
    if entry["dtype"] == np.int8:
        scale, zero = entry["quantization"]
        picture = np.clip(np.round(picture / scale + zero), -128, 127).astype(np.int8)
    interpreter.set_tensor(entry["index"], picture)


def _value(interpreter: Any, details: dict[str, Any], name: str) -> Any:
    """A tensor as float32."""
    import numpy as np

    entry = details[name]
    value = interpreter.get_tensor(entry["index"]).astype(np.float32)
    scale, zero = entry["quantization"]
    return (value - zero) * scale if scale else value


def _serve(folder: Path, answers: BinaryIO, tell: Callable[..., None]) -> None:
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


if __name__ == "__main__":
    main()
