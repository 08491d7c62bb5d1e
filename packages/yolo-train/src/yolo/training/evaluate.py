"""Measuring a network on a split, without a trainer: what ``yolo validate`` does."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from yolo.cli.output import track
from yolo.data.labels import LabelTable
from yolo.data.types import Batch
from yolo.training.metrics import Evaluation, Evaluator, Protocol
from yolo.training.metrics.detect import detect


def evaluate_network(
    network: nn.Module,
    batches: Iterable[Batch],
    truth: LabelTable,
    protocol: Protocol,
    *,
    device: str = "cpu",
    operating_confidence: float = 0.25,
) -> tuple[Evaluation, Evaluator]:
    """Detect on every batch and evaluate.

    Args:
        network: in evaluation mode, on ``device``.
        batches: of the evaluation loader.
        truth: labels of the split.
        protocol: how detections are made.
        device: where the network is.
        operating_confidence: threshold of precision, recall and F1.

    Returns:
        The evaluation, and the evaluator that still holds the detections.
    """
    evaluator = Evaluator(truth)
    for batch in track(batches, "Validating"):
        evaluator.update(batch.ids.tolist(), detect(network, batch.to(device), protocol))
    return evaluator.compute(protocol, operating_confidence=operating_confidence), evaluator
