"""From a picture to the network's input, as data: stored in checkpoints and beside exported files. Imports nothing."""

from __future__ import annotations

from typing import Any

#: What :func:`yolo.core.letterbox.letterbox` and the predictor do, for readers in any language.
PREPROCESSING: dict[str, Any] = {
    "resize": "letterbox",
    "letterbox": {
        "scale": "min(width / image width, height / image height)",
        "content": "floor(side * scale) in integer arithmetic, at least 1 pixel; the fitted side is exact",
        "interpolation": "bilinear, OpenCV INTER_LINEAR, no antialias",
        "position": "centred; left and top border are half of the rest, rounded down",
        "fill": [114, 114, 114],
    },
    "color": "RGB",
    "layout": "NCHW",
    "dtype": "float32",
    "divide_by": 255,
}
