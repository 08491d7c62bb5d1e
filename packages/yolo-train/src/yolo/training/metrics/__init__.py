"""Evaluation: detections in original pixels against the truth, with COCO's numbers."""

from yolo.training.metrics.coco import CocoStats
from yolo.training.metrics.evaluator import Detected, Evaluation, Evaluator, Protocol

__all__ = ["CocoStats", "Detected", "Evaluation", "Evaluator", "Protocol"]
