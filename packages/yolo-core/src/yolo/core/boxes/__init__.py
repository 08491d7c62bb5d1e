"""Pure functions on boxes: float32 xyxy pixels of the current canvas unless a name says otherwise."""

from yolo.core.boxes.convert import cxcywh_to_xyxy, xyxy_to_cxcywh
from yolo.core.boxes.grid import AnchorGrid, make_grid
from yolo.core.boxes.iou import box_iou, ciou
from yolo.core.boxes.nms import Detected, non_max_suppression

__all__ = [
    "AnchorGrid",
    "Detected",
    "box_iou",
    "ciou",
    "cxcywh_to_xyxy",
    "make_grid",
    "non_max_suppression",
    "xyxy_to_cxcywh",
]
