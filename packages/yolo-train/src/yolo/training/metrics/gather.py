"""One evaluation for several processes: detections go to the first, numbers come back to all.

Everything travels as plain tensors, so that nothing of another process is ever unpickled here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from yolo.training.metrics.coco import CocoStats
from yolo.training.metrics.evaluator import Detected, Evaluation, Evaluator, Protocol
from yolo.training.metrics.operating import Counts

_STATS = 12


def evaluate_together(
    evaluator: Evaluator, protocol: Protocol, *, operating_confidence: float, device: torch.device
) -> Evaluation:
    """Evaluate what all processes have detected; every process gets the same numbers, to the last bit.

    Only the first process computes: the others would spend memory and time of their own on the same numbers, and would
    have to wait for the slowest of them anyway.

    Args:
        evaluator: with the detections of this process; afterwards the first process has those of all.
        protocol: how the detections were made.
        operating_confidence: threshold of precision, recall and F1.
        device: of this process, for backends that send nothing else (NCCL).
    """
    device = device if dist.get_backend() != "gloo" else torch.device("cpu")
    found = gather_detections(evaluator.found, device)
    classes = len(evaluator.truth.class_names)
    numbers = torch.empty(_STATS + 1 + 6 * classes, dtype=torch.float64, device=device)
    evaluation = None
    if found is not None:
        evaluator.update(list(found), list(found.values()))
        evaluation = evaluator.compute(protocol, operating_confidence=operating_confidence)
        numbers.copy_(_packed(evaluation))
    dist.broadcast(numbers, src=0)
    return evaluation or _unpacked(numbers.cpu().numpy(), evaluator, protocol, operating_confidence)


def gather_detections(found: Mapping[int, Detected], device: torch.device) -> dict[int, Detected] | None:
    """Bring the detections of all processes, by index of the image, to the first one; the others get None.

    Args:
        found: of this process; it may have none, and its images may have none.
        device: that the backend can send from.
    """
    entries = list(found.values())
    # [image, number of detections] for each image, and x1, y1, x2, y2, score for each detection.
    images = torch.tensor([[index, len(entry.scores)] for index, entry in found.items()], dtype=torch.int64)
    rows = [np.column_stack((entry.boxes, entry.scores)) for entry in entries]
    values = torch.from_numpy(np.concatenate([np.empty((0, 5), np.float32), *rows], dtype=np.float32))
    labels = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *(entry.labels for entry in entries)]))
    parts = [_to_first(part.to(device)) for part in (images.reshape(-1, 2), values, labels)]
    gathered: dict[int, Detected] = {}
    for held in zip(*parts, strict=True):
        owner, boxes, classes = (part.cpu().numpy() for part in held)
        ends = np.cumsum(owner[:, 1])
        for index, start, end in zip(owner[:, 0].tolist(), (ends - owner[:, 1]).tolist(), ends.tolist(), strict=True):
            gathered[index] = Detected(boxes[start:end, :4], boxes[start:end, 4], classes[start:end])
    return gathered if dist.get_rank() == 0 else None


def _to_first(value: Tensor) -> list[Tensor]:
    """The tensors of all processes by rank, in the first process; they may differ in length. Elsewhere nothing."""
    lengths = [torch.empty(1, dtype=torch.int64, device=value.device) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, torch.tensor([len(value)], device=value.device))
    sizes = [int(length) for length in lengths]
    longest = max(sizes)
    if not longest:
        return [value for _ in sizes] if dist.get_rank() == 0 else []
    padded = value.new_zeros((longest, *value.shape[1:]))
    padded[: len(value)] = value
    if dist.get_rank() != 0:
        dist.gather(padded, dst=0)
        return []
    held = [torch.empty_like(padded) for _ in sizes]
    dist.gather(padded, held, dst=0)
    return [part[:size] for part, size in zip(held, sizes, strict=True)]


def _packed(evaluation: Evaluation) -> Tensor:
    counts = evaluation.counts
    parts = (
        np.array([*astuple(evaluation.stats), evaluation.images], np.float64),
        evaluation.per_class.ravel(),
        *(np.asarray(count, np.float64) for count in (counts.true_positives, counts.false_positives, counts.truths)),
    )
    return torch.from_numpy(np.concatenate(parts))


def _unpacked(
    numbers: np.typing.NDArray[np.float64], evaluator: Evaluator, protocol: Protocol, confidence: float
) -> Evaluation:
    names = evaluator.truth.class_names
    stats, (images,), per_class, *counts = np.split(
        numbers, np.cumsum([_STATS, 1, 3 * len(names), len(names), len(names)])
    )
    return Evaluation(
        stats=CocoStats(*stats.tolist()),
        class_names=tuple(names),
        per_class=per_class.reshape(-1, 3),
        counts=Counts(*(count.astype(np.int64) for count in counts)),
        operating_confidence=confidence,
        images=int(images),
        split_images=len(evaluator.truth),
        protocol=protocol,
    )
