"""From a batch of the evaluation set to detections in original pixels: the one path of training and validation."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from yolo.core.boxes.nms import non_max_suppression
from yolo.core.decode import Decoded, decode
from yolo.core.letterbox import undo_letterbox
from yolo.data.types import Batch
from yolo.training.metrics.evaluator import Detected, Protocol


@torch.no_grad()
def detect(network: nn.Module, batch: Batch, protocol: Protocol) -> list[Detected]:
    """Run network, decoding, NMS and the way back to source pixels on a batch.

    Args:
        network: in evaluation mode, on the device of ``batch.images``.
        batch: letterboxed images.
        protocol: thresholds of NMS.

    Returns:
        One entry per image, boxes clipped to the picture.
    """
    return select(decode(network(batch.images.float() / 255).main), batch, protocol)


@torch.no_grad()
def select(decoded: Decoded, batch: Batch, protocol: Protocol) -> list[Detected]:
    """Run NMS and the way back to source pixels on the predictions for a batch, whatever made them.

    Args:
        decoded: boxes in pixels of the canvas, and probabilities.
        batch: that they are for.
        protocol: thresholds of NMS.

    Returns:
        One entry per image, boxes clipped to the picture.
    """
    kept = non_max_suppression(
        decoded.boxes.float(),
        decoded.scores.float(),
        confidence=protocol.confidence,
        iou=protocol.iou,
        max_detections=protocol.max_detections,
    )
    found = []
    for image, matrix, size in zip(kept, batch.matrices.numpy(), batch.source_sizes.tolist(), strict=True):
        boxes = undo_letterbox(image.boxes.cpu().numpy(), matrix=matrix, source_size=(size[0], size[1]))
        boxes = np.asarray(boxes, np.float32)
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # the rest lay on the grey border, as in Predictor
        scores = image.scores.cpu().numpy().astype(np.float32)
        found.append(Detected(boxes[inside], scores[inside], image.labels.cpu().numpy()[inside]))
    return found
