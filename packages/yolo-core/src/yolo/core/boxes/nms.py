"""Non-maximum suppression of a batch of decoded predictions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_FIRST_LOOK = 4  # the first pass looks at this many candidates per wanted detection


class Detected(NamedTuple):
    """What is left of one image, best score first.

    Attributes:
        boxes: ``[n, 4]`` xyxy, frame of the input boxes.
        scores: ``[n]``.
        labels: int64 ``[n]``.
        anchors: int64 ``[n]``, the prediction that each detection came from.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    anchors: Tensor


def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    *,
    confidence: float,
    iou: float,
    max_detections: int,
    class_agnostic: bool = False,
    multi_label: bool = True,
    max_candidates: int = 30000,
) -> list[Detected]:
    """Greedy suppression, class by class unless told otherwise.

    A candidate is a (prediction, class) pair whose score is strictly above ``confidence``; the best
    ``max_candidates`` of an image take part. A candidate goes when its IoU with a better one that stayed is strictly
    above ``iou``. Equal scores keep the order of predictions, then classes. The time is bounded: suppression stops at
    ``max_detections``.

    Args:
        boxes: ``[B, A, 4]`` xyxy, any frame.
        scores: ``[B, A, C]`` probabilities.
        confidence: lower bound of the score, exclusive.
        iou: upper bound of the overlap of two detections (of one class).
        max_detections: detections per image.
        class_agnostic: let boxes of different classes suppress each other.
        multi_label: a prediction may yield several classes; otherwise its best class only.
        max_candidates: candidates per image.

    Returns:
        One :class:`Detected` per image.
    """
    found = []
    for image_boxes, image_scores in zip(boxes.detach(), scores.detach(), strict=True):
        best, anchors, labels = _candidates(image_scores, confidence, multi_label, max_candidates)
        corners = image_boxes[anchors]
        finite = corners.isfinite().all(dim=1)
        if not bool(finite.all()):  # a diverged network: its other boxes still count
            best, anchors, labels, corners = best[finite], anchors[finite], labels[finite], corners[finite]
        keep = _suppress(corners, best, None if class_agnostic else labels, iou, max_detections)
        found.append(Detected(corners[keep], best[keep], labels[keep], anchors[keep]))
    return found


def _candidates(scores: Tensor, confidence: float, multi_label: bool, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, predictions and classes of the pairs above the bound, best first."""
    classes = scores.shape[1]
    if not classes:
        none = torch.zeros(0, dtype=torch.long, device=scores.device)
        return scores.new_zeros(0), none, none
    # A look at the best score of each prediction is cheap; what else is done is for the few that pass. Not "above the
    # bound", for a prediction with one undefined score has others.
    rows = (~(_highest(scores) <= confidence)).nonzero().squeeze(1)
    scores = scores[rows]
    if multi_label:
        pair = (scores > confidence).flatten().nonzero().squeeze(1)
        best = scores.flatten()[pair]
    else:
        best, label = scores.max(dim=1)
        above = best > confidence
        pair = above.nonzero().squeeze(1) * classes + label[above]
        best = best[above]
    if len(best) > limit:  # not a plain top-k: which of several equal scores it returns is not defined
        enough = best >= best.topk(limit, sorted=False).values.min()
        pair, best = pair[enough], best[enough]
    best, order = best.sort(descending=True, stable=True)
    best, pair = best[:limit], pair[order][:limit]
    return best, rows[pair // classes], pair % classes


def _highest(scores: Tensor) -> Tensor:
    """The best score of each prediction, undefined where one of them is."""
    if scores.device.type == "cpu" and scores.dtype == torch.float32 and scores.stride(0) == 1:
        # Class by class, as exported files give them, NumPy is as fast with one thread, and need not wait for torch's
        # others, which share the cores with those of the file's runtime.
        return torch.from_numpy(scores.numpy().max(axis=1))
    return scores.amax(dim=1)


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor | None, *, iou: float, max_detections: int) -> Tensor:
    """Greedy suppression of boxes that come from several places.

    Args:
        boxes: ``[N, 4]`` xyxy.
        scores: ``[N]``, in any order; equal ones keep it.
        labels: ``[N]`` classes; None lets all boxes suppress each other.
        iou: upper bound of the overlap of two detections (of one class).
        max_detections: that are kept.

    Returns:
        int64 positions of the survivors, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    kept = _suppress(boxes[order], scores[order], None if labels is None else labels[order], iou, max_detections)
    return order[kept]


def _suppress(boxes: Tensor, scores: Tensor, labels: Tensor | None, iou: float, limit: int) -> Tensor:
    """Positions of the survivors, best first, at most ``limit``; the scores come sorted."""
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.long, device=boxes.device)
    # Here, for it takes longer to load than torch: who made a mistake, or finds nothing, need not wait for it.
    from torchvision.ops import nms  # type: ignore[import-untyped]  # torchvision ships no types

    device = boxes.device
    if device.type == "mps":  # has no float64
        boxes, scores = boxes.cpu(), scores.cpu()
        labels = None if labels is None else labels.cpu()
    # Classes are moved apart so that they never meet; in float64, since far away float32 has no room for the fractions.
    boxes = boxes.double()
    if labels is not None:
        boxes = boxes + (labels * (boxes.max() - boxes.min() + 1))[:, None]
    # Greedy suppression of a prefix is the prefix of the whole result, so look further only where it is needed.
    rank = torch.arange(len(boxes), 0, -1, dtype=torch.float64, device=boxes.device)
    look = _FIRST_LOOK * limit
    while True:
        keep: Tensor = nms(boxes[:look], rank[:look], iou)
        if len(keep) >= limit or look >= len(boxes):
            return keep[:limit].to(device)
        look *= 4
