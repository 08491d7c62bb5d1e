"""What a deployed file must say about itself: classes, size, and how to feed and read it. Importable without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from yolo.core.preprocessing import PREPROCESSING

OUTPUT: dict[str, Any] = {
    "layout": "[batch, 4 + classes, anchors]",
    "boxes": "rows 0-3: centre x, centre y, width, height in pixels of the input",
    "scores": "rows 4 and on: probability of each class (sigmoid is applied)",
    "anchors": "by stride, fine to coarse, then row by row",
    "nms": False,
}
ANCHOR_BOX_OUTPUT: dict[str, Any] = {
    **OUTPUT,
    "anchors": "by stride, fine to coarse, then by anchor box, then row by row",
}
"""Of a network with anchor boxes (YOLOv7)."""
INPUT_NAME = "images"
OUTPUT_NAME = "output0"
NMS_NAME = "detections"
"""Of the second output of a file with suppression inside."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file carries, or a manifest beside it.

    Attributes:
        class_names: one per class.
        image_size: (width, height) of the input, pixels.
        strides: pixels per cell of each scale, fine to coarse.
        architecture: name of the network.
        checkpoint_sha256: of the file that the weights came from.
        preprocessing: from a picture to the input.
        output: how to read the output.
    """

    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    strides: tuple[int, ...]
    architecture: str
    checkpoint_sha256: str
    preprocessing: Mapping[str, Any] = field(default_factory=lambda: dict(PREPROCESSING))
    output: Mapping[str, Any] = field(default_factory=lambda: dict(OUTPUT))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    def to_properties(self) -> dict[str, str]:
        """Return one text per entry, for formats that hold strings: JSON, with a plain string as it is."""
        return {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in self.to_dict().items()
        }


def read_properties(properties: Mapping[str, str]) -> dict[str, Any]:
    """Undo :meth:`Metadata.to_properties`, whoever wrote the file: what is not JSON stays text."""
    found: dict[str, Any] = {}
    for key, text in properties.items():
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found
