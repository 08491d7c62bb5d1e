"""How far the layers of a file of integers are from those of the float file, on the same pictures."""

from __future__ import annotations

from typing import Any

from .layers import open_interpreter, read_layers


def layer_errors(exact: bytes, rounded: bytes, names: dict[str, str], pictures: Any) -> list[list[Any]]:
    """How far each convolution's output is from the float file's: ``[name, relative error]``, in the order of work.

    The error is the root mean square of the difference over that of the float values; it adds up from layer to layer.
    """
    import numpy as np

    interpreters = [open_interpreter(model, keep=True) for model in (exact, rounded)]
    details = [{tensor["name"]: tensor for tensor in each.get_tensor_details()} for each in interpreters]
    written = [tensor for layer in read_layers(rounded) for tensor in layer.outputs]
    sums = {tensor: [0.0, 0.0] for tensor in written if tensor in names and tensor in details[0]}
    for picture in pictures:
        for each in interpreters:
            _feed(each, to_input(picture))
            each.invoke()
        for tensor, total in sums.items():
            wanted, found = (_value(*pair, tensor) for pair in zip(interpreters, details, strict=True))
            total[0] += float(np.square(found - wanted).sum())
            total[1] += float(np.square(wanted).sum())
    return [[names[tensor], round((off / size) ** 0.5, 5)] for tensor, (off, size) in sums.items() if size > 0]


def to_input(picture: Any) -> Any:
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
