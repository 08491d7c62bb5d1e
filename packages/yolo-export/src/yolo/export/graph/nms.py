"""Non-maximum suppression as a second output of an ONNX graph. Written from the ONNX operator specification."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yolo.core.errors import UsageError
from yolo.export.matching import CONFIDENCE, IOU, MAX_DETECTIONS
from yolo.export.metadata import NMS_NAME, OUTPUT_NAME

#: Before it, the smaller of two whole numbers could not be taken.
FIRST_OPSET = 12

#: From centre x, centre y, width, height to x1, y1, x2, y2, as a product.
_TO_CORNERS = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32)
_END = np.iinfo(np.int64).max
_CONSTANTS: dict[str, Any] = {
    "nms_confidence": np.array([CONFIDENCE], np.float32),
    "nms_iou": np.array([IOU], np.float32),
    "nms_max_detections": np.array([MAX_DETECTIONS], np.int64),
    "nms_0": np.array([0], np.int64),
    "nms_4": np.array([4], np.int64),
    "nms_end": np.array([_END], np.int64),
    "nms_rows": np.array([1], np.int64),
    "nms_class": np.array(1, np.int64),
    "nms_anchor": np.array(2, np.int64),
    "nms_boxes_shape": np.array([-1, 4], np.int64),
    "nms_column": np.array([-1, 1], np.int64),
    "nms_corners": _TO_CORNERS,
}


def describe_nms() -> dict[str, Any]:
    """What the second output is, for a manifest."""
    return {
        "name": NMS_NAME,
        "layout": "[detections, 6]",
        "rows": "x1, y1, x2, y2 in pixels of the input, score, class; best score first",
        "confidence": CONFIDENCE,
        "iou": IOU,
        "max_detections": MAX_DETECTIONS,
        "class_agnostic": False,
    }


def add_nms(model: onnx.ModelProto) -> None:
    """Give a detector for one image the output ``detections``, beside ``output0``.

    It is what ``yolo predict`` makes of ``output0``: several classes a prediction, suppression class by class. The
    constants ``nms_confidence``, ``nms_iou`` and ``nms_max_detections`` of the graph can be changed.

    Raises:
        UsageError: the operator set is too old.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < FIRST_OPSET:
        raise UsageError(f"--nms needs --opset {FIRST_OPSET} or later, not {opset}")
    graph = model.graph
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in _CONSTANTS.items())

    def add(kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        names = [f"nms/{name}" for name in outputs]
        graph.node.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))

    add("Slice", [OUTPUT_NAME, "nms_0", "nms_4", "nms_rows"], "sides")
    add("Slice", [OUTPUT_NAME, "nms_4", "nms_end", "nms_rows"], "scores")
    add("Transpose", ["nms/sides"], "boxes", perm=[0, 2, 1])
    inputs = ["nms/boxes", "nms/scores", "nms_max_detections", "nms_iou", "nms_confidence"]
    add("NonMaxSuppression", inputs, "all", center_point_box=1)  # rows of image, class, anchor
    add("GatherND", ["nms/scores", "nms/all"], "all_scores")
    add("Shape", ["nms/all_scores"], "found")
    add("Min", ["nms/found", "nms_max_detections"], "count")
    add("TopK", ["nms/all_scores", "nms/count"], "best", "order")
    add("Gather", ["nms/all", "nms/order"], "kept", axis=0)
    add("Gather", ["nms/kept", "nms_class"], "label", axis=1)
    add("Gather", ["nms/kept", "nms_anchor"], "anchor", axis=1)
    add("Reshape", ["nms/boxes", "nms_boxes_shape"], "flat")
    add("Gather", ["nms/flat", "nms/anchor"], "kept_boxes", axis=0)
    add("MatMul", ["nms/kept_boxes", "nms_corners"], "corners")
    add("Reshape", ["nms/best", "nms_column"], "score_column")
    add("Cast", ["nms/label"], "label_float", to=TensorProto.FLOAT)
    add("Reshape", ["nms/label_float", "nms_column"], "label_column")
    columns = ["nms/corners", "nms/score_column", "nms/label_column"]
    graph.node.append(helper.make_node("Concat", columns, [NMS_NAME], name="nms/detections", axis=1))
    graph.output.append(helper.make_tensor_value_info(NMS_NAME, TensorProto.FLOAT, ["detections", 6]))
