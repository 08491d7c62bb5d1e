"""``spec.json`` of a bundle: how to feed a model and how to read it, as data for programs in any language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from yolo.export.matching import CONFIDENCE, IOU, MAX_DETECTIONS
from yolo.export.metadata import INPUT_NAME, OUTPUT, OUTPUT_NAME, Metadata

if TYPE_CHECKING:
    from yolo.export.bundle.golden import Golden

FORMAT = 1
SCHEMA = "spec.schema.json"

NMS_RULE = (
    "A candidate is a pair of an anchor and a class whose score is strictly above the confidence; the best "
    "max_candidates take part, equal ones in the order of anchors, then classes. From the best on, a candidate stays "
    "unless its IoU with one of its class that stayed is strictly above iou; at most max_detections stay."
)
DECODE_RULE = (
    "x1 = cx - w / 2, y1 = cy - h / 2, x2 = cx + w / 2, y2 = cy + h / 2 on the canvas; on the picture "
    "x * picture width / content width after subtracting the left border, y likewise, clipped to the picture; a box "
    "without area goes. Suppression comes before the way back."
)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What non-maximum suppression is asked for; the defaults are those of ``yolo predict``.

    Attributes:
        confidence: lower bound of the score, exclusive.
        iou: upper bound of the overlap of two detections of one class.
        max_detections: per picture.
        max_candidates: per picture.
    """

    confidence: float = CONFIDENCE
    iou: float = IOU
    max_detections: int = MAX_DETECTIONS
    max_candidates: int = 30000


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How far a program may be from the golden files; a larger difference is an error in it.

    Attributes:
        pixels: grey levels of the input: none, the letterbox is made of whole numbers.
        boxes: pixels, of the network's output.
        scores: of the network's output.
        detections: pixels and scores, from the golden output to the golden detections.
    """

    pixels: float = 0.01
    boxes: float = 0.02
    scores: float = 5e-4
    detections: float = 0.01


#: Other processors and versions of a runtime round in other places; the coarser the numbers, the more it shows.
_BY_PRECISION = {
    "float16": Tolerances(boxes=2.0, scores=0.02),
    "int8": Tolerances(boxes=4.0, scores=0.05),
}


def tolerances_for(precision: str) -> Tolerances:
    """Return what counts as the same output of a file with weights of ``float32``, ``float16`` or ``int8``."""
    return _BY_PRECISION.get(precision, Tolerances())


def build_spec(
    *,
    model_name: str,
    manifest: Mapping[str, Any],
    metadata: Metadata,
    golden: Golden,
    thresholds: Thresholds,
    licences: Mapping[str, str],
) -> dict[str, Any]:
    """Put everything together as plain data; ``spec.schema.json`` describes every entry.

    Args:
        model_name: of the file in the bundle.
        manifest: of the export.
        metadata: what the file says about itself.
        golden: the pass that is stored beside it.
        thresholds: for use.
        licences: of ``code`` and ``weights``.
    """
    described = metadata.to_dict()
    preprocessing, output = described["preprocessing"], {**OUTPUT, **described["output"]}
    settings = manifest.get("settings", {})
    tensors = settings.get("tensors", {})
    width, height = metadata.image_size
    precision = str(settings.get("precision", "float32"))
    return {
        "$schema": SCHEMA,
        "spec": FORMAT,
        "model": {
            "file": model_name,
            "format": manifest["format"],
            "precision": precision,
            "sha256": manifest["file"]["sha256"],
            "bytes": manifest["file"]["bytes"],
            "architecture": metadata.architecture,
            "checkpoint_sha256": metadata.checkpoint_sha256,
        },
        "classes": list(metadata.class_names),
        "input": {
            "name": INPUT_NAME,
            "width": width,
            "height": height,
            "color": preprocessing["color"],
            "layout": preprocessing["layout"],
            "dtype": preprocessing["dtype"],
            "divide_by": preprocessing["divide_by"],
            **tensors.get("input", {}),
        },
        "letterbox": preprocessing["letterbox"],
        "output": {
            "name": OUTPUT_NAME,
            "rows": ["cx", "cy", "w", "h", "score of each class"],
            "anchors": output["anchors"],
            "boxes": output["boxes"],
            "scores": output["scores"],
            **tensors.get("output", {}),
            "shape": list(golden.output.shape),
        },
        "decode": {"strides": list(metadata.strides), "rule": DECODE_RULE},
        "nms": {**asdict(thresholds), "multi_label": True, "class_agnostic": False, "rule": NMS_RULE},
        "golden": {
            "picture": {
                "file": "golden/picture.png",
                "raw": "golden/picture.ppm",
                "width": golden.picture.shape[1],
                "height": golden.picture.shape[0],
            },
            "input": {"file": "golden/input.f32", "dtype": "float32", "shape": list(golden.input.shape)},
            "output": {"file": "golden/output.f32", "dtype": "float32", "shape": list(golden.output.shape)},
            "detections": {"file": "golden/detections.json", "count": len(golden.detections)},
            "nms": asdict(golden.thresholds),
            "tolerances": asdict(tolerances_for(precision)),
        },
        "licences": dict(licences),
        "versions": dict(manifest.get("versions", {})),
    }
