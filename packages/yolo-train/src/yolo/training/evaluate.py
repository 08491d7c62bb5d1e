"""Measuring predictions on a split, without a trainer: what ``yolo validate`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.cli.output import track
from yolo.core.decode import Decoded
from yolo.data.labels import LabelTable
from yolo.data.types import Batch
from yolo.training.metrics import Evaluation, Evaluator, Protocol
from yolo.training.metrics.detect import select


def evaluate(
    predict: Callable[[torch.Tensor], Decoded],
    batches: Iterable[Batch],
    truth: LabelTable,
    protocol: Protocol,
    *,
    device: torch.device | str = "cpu",
    operating_confidence: float = 0.25,
    rows: NDArray[np.intp] | None = None,
) -> tuple[Evaluation, Evaluator]:
    """Detect on every batch and evaluate.

    Args:
        predict: from uint8 ``[B, 3, H, W]`` pictures to boxes in pixels of the canvas, and probabilities.
        batches: of the evaluation loader.
        truth: labels of the split.
        protocol: how detections are made.
        device: where ``predict`` takes its pictures.
        operating_confidence: threshold of precision, recall and F1.
        rows: images of the split that ``batches`` counts through; default: all of them, in order.

    Returns:
        The evaluation, and the evaluator that still holds the detections.
    """
    evaluator = Evaluator(truth)
    for batch in track(batches, "Validating"):
        found = select(predict(batch.to(device).images), batch, protocol)
        ids = batch.ids.numpy()
        evaluator.update((ids if rows is None else rows[ids]).tolist(), found)
    return evaluator.compute(protocol, operating_confidence=operating_confidence), evaluator
