"""Which anchors learn which target: task-aligned assignment.

TOOD (Feng et al., arXiv:2108.07755, section 3.2) in the form of the published YOLOv9. Candidates lie in a rectangle of
each scale's grid, so they are enumerated from the grid: no mask of boxes times anchors exists at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yolo.core.boxes.cells import dense_cells, memory_index, memory_order
from yolo.core.boxes.iou import Sides, ciou_of_sides
from yolo.core.boxes.ragged import rank, row_blocks, unrank
from yolo.core.errors import YoloError

_PAIRS = {"cpu": 1 << 19, "cuda": 1 << 22}  # pairs in work at a time: what a cache holds, what keeps a GPU busy


@dataclass(frozen=True)
class Assignment:
    """Positive anchors as parallel lists of length P, by image, then by anchor; every anchor at most once.

    Attributes:
        image: int64, position of the image in the batch.
        anchor: int64, index of the anchor over all scales.
        target: int64, row of the target in the lists that were given.
        label: int64, class of that target.
        score: float32, the soft class target in [0, 1].
    """

    image: Tensor
    anchor: Tensor
    target: Tensor
    label: Tensor
    score: Tensor


@dataclass(frozen=True)
class TaskAlignedAssigner:
    """Give each target its best anchors by score^alpha * overlap^beta.

    An anchor is a candidate if its point lies strictly inside the target and its metric is not 0; the ``topk`` best
    candidates of a target are taken (equal ones: the lower index), nothing is forced. An anchor taken by several
    targets goes to the target of the image that overlaps its box most, also if that one did not take it (equal ones:
    the lower index). Overlap is CIoU, at least 0. The soft score is the metric over the best metric of the target,
    times the best overlap of the target.

    Attributes:
        topk: anchors per target.
        alpha: exponent of the predicted probability of the target's class.
        beta: exponent of the overlap.
    """

    topk: int = 10
    alpha: float = 0.5
    beta: float = 6.0

    @torch.no_grad()
    def __call__(
        self,
        logits: Sequence[Tensor],
        predicted: Tensor,
        strides: Sequence[int],
        boxes: Tensor,
        labels: Tensor,
        image_index: Tensor,
    ) -> Assignment:
        """Assign a batch.

        Args:
            logits: class logits per scale, ``[B, C, h, w]``.
            predicted: ``[B, 4, A]`` boxes of all anchors, xyxy pixels.
            strides: pixels per cell of each scale.
            boxes: ``[N, 4]`` targets, xyxy pixels; any box is allowed, empty ones get nothing.
            labels: int64 ``[N]``.
            image_index: int64 ``[N]``, in any order.

        Returns:
            The positives.

        Raises:
            YoloError: a label or an image index is out of range.
        """
        _check(labels, image_index, logits[0])
        if boxes.device.type == "mps":  # it has no float64
            on_host = [scale.cpu() for scale in logits]
            found = self(on_host, predicted.cpu(), strides, boxes.cpu(), labels.cpu(), image_index.cpu())
            return Assignment(**{name: part.to(boxes.device) for name, part in vars(found).items()})
        order = image_index.argsort(stable=True)
        work = _Work(self, logits, predicted.float(), strides, boxes.float()[order], labels[order], image_index[order])
        target, anchor, metric, overlap = work.resolve(*work.candidates())
        best = torch.zeros(2, len(boxes), device=boxes.device)
        best[0].scatter_reduce_(0, target, metric, "amax")
        best[1].scatter_reduce_(0, target, overlap, "amax")
        score = metric / (best[0][target] + 1e-9) * best[1][target]
        target = order[target]
        anchors = predicted.shape[2]
        return Assignment(anchor // anchors, anchor % anchors, target, labels[target], score)


def _check(labels: Tensor, image_index: Tensor, logits: Tensor) -> None:
    if len(labels) == 0:
        return
    low, high, first, last = torch.stack([*labels.aminmax(), *image_index.aminmax()]).tolist()
    batch, classes = logits.shape[:2]
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise YoloError(f"a target has class {wrong}, but the model has {classes} classes (0 to {classes - 1})")
    if first < 0 or last >= batch:
        wrong = first if first < 0 else last
        raise YoloError(f"a target belongs to image {wrong} of the batch, which has {batch} images")


class _Work:
    """One assignment under way. Targets are grouped by image; anchors count through the batch: image * A + anchor."""

    def __init__(
        self,
        rule: TaskAlignedAssigner,
        logits: Sequence[Tensor],
        predicted: Tensor,
        strides: Sequence[int],
        boxes: Tensor,
        labels: Tensor,
        image: Tensor,
    ) -> None:
        self.rule, self.strides, self.labels, self.image = rule, strides, labels, image
        self.maps = [dense_cells(scale.detach()) for scale in logits]
        self.shapes = [(scale.shape[2], scale.shape[3]) for scale in logits]
        self.starts = np.cumsum([0, *(h * w for h, w in self.shapes)]).tolist()
        self.anchors, self.batch = self.starts[-1], len(predicted)
        self.predicted = Sides.of(*predicted.transpose(0, 1).reshape(4, -1))
        self.targets = Sides.of(*boxes.t().contiguous())
        self.device = boxes.device
        self.budget = _PAIRS.get(self.device.type, _PAIRS["cuda"])

    def metric(self, overlap: Tensor, logit: Tensor) -> Tensor:
        return _power(logit.float().sigmoid(), self.rule.alpha) * _power(overlap, self.rule.beta)

    def candidates(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The top-k of every target: target, anchor, metric, overlap, in parallel lists."""
        count, topk = len(self.image), self.rule.topk
        shape = (count, len(self.maps) * topk)
        metrics, overlaps = torch.zeros(2, *shape, device=self.device)
        anchors = torch.zeros(shape, dtype=torch.long, device=self.device)
        for level, (_, columns) in enumerate(self.shapes):
            left, top, width, height = self._rectangles(level)
            flat, length = memory_order(self.maps[level]), width * height
            for row, longest in row_blocks(length, self.budget):
                step = torch.arange(longest, device=self.device)
                across, image, label = width[row, None], self.image[row, None], self.labels[row, None]
                down = step.div(across, rounding_mode="floor")
                cell = (top[row, None] + down) * columns + left[row, None] + step - down * across
                inside = step < length[row, None]
                cell = cell.where(inside, 0)
                anchor = image * self.anchors + self.starts[level] + cell
                overlap = ciou_of_sides(self.targets.at(row).column(), self.predicted.at(anchor)).clamp_(min=0)
                metric = self.metric(overlap, flat[memory_index(self.maps[level], image, label, cell)]).where(inside, 0)
                best = rank(metric, step, longest).topk(min(topk, longest), dim=1).values
                value, chosen = unrank(best, longest)
                place = slice(level * topk, level * topk + best.shape[1])
                metrics[row, place] = value
                anchors[row, place] = anchor.gather(1, chosen)
                overlaps[row, place] = overlap.gather(1, chosen)
        column = torch.arange(shape[1], device=self.device)
        value, chosen = unrank(rank(metrics, column, shape[1]).topk(topk).values, shape[1])
        target, rank_in_target = (value > 0).nonzero(as_tuple=True)
        chosen = chosen[target, rank_in_target]
        return target, anchors[target, chosen], metrics[target, chosen], overlaps[target, chosen]

    def resolve(
        self, target: Tensor, anchor: Tensor, metric: Tensor, overlap: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Leave each anchor to one target; the same lists, by anchor."""
        taken = torch.bincount(anchor, minlength=self.batch * self.anchors)
        claimed = torch.zeros(len(taken), device=self.device).scatter_reduce_(0, anchor, overlap, "amax")
        wanted = (taken > 1).nonzero().squeeze(1)
        alone = taken[anchor] == 1
        winner, won = self._largest_overlap(wanted, claimed[wanted])
        earned = self.metric(won, self._logits(wanted, winner)).nan_to_num_(0.0)
        anchor, order = torch.cat((anchor[alone], wanted)).sort()
        parts = ((target[alone], winner), (metric[alone], earned), (overlap[alone], won))
        target, metric, overlap = (torch.cat(part)[order] for part in parts)
        return target, anchor, metric, overlap

    def _largest_overlap(self, wanted: Tensor, claimed: Tensor) -> tuple[Tensor, Tensor]:
        """For some anchors, the target of their image with the largest overlap, and that overlap.

        An overlap of at least c, the largest that was claimed, bounds how far the centres lie apart: along x the boxes
        share at least c times the wider one, which leaves max(1 - c, (1 / c - 1) / 2) widths of the prediction. So only
        a window of the image's targets, sorted by their centres, is looked at.
        """
        count = len(self.image)
        image, box = wanted // self.anchors, self.predicted.at(wanted)
        centre = ((self.targets.x1.double() + self.targets.x2) / 2).nan_to_num(0.0)
        low, high = (centre.amin() - 1, centre.amax() + 1) if count else (centre.sum(), centre.sum())
        apart = high - low  # of the images, on one common axis
        axis, by_centre = (self.image * apart + (centre - low)).sort(stable=True)
        least = claimed.double().clamp(min=1e-12) * 0.999
        width, middle = (box.x2 - box.x1).double(), (box.x1.double() + box.x2) / 2
        reach = width * torch.maximum(1 - least, (1 / least - 1) / 2) + 0.001 * width + 0.01
        edges = [image * apart + (middle + side * reach - low).clamp(min=0).minimum(apart) for side in (-1, 1)]
        begin, end = (
            torch.searchsorted(axis, edge, right=right) for edge, right in zip(edges, (False, True), strict=True)
        )
        best = torch.zeros_like(wanted)
        for row, longest in row_blocks(end - begin, self.budget):
            mine = box.at(row).column()
            for start in range(0, longest, self.budget):  # more targets on one image than a block holds
                position = begin[row, None] + torch.arange(start, min(start + self.budget, longest), device=self.device)
                inside = position < end[row, None]
                candidate = by_centre[position.where(inside, 0)]
                overlap = ciou_of_sides(self.targets.at(candidate), mine).clamp_(min=0)
                key = rank(overlap, candidate, count).where(inside, 0).amax(dim=1)
                best[row] = torch.maximum(best[row], key)
        won, winner = unrank(best, count)
        return winner, won

    def _logits(self, anchor: Tensor, target: Tensor) -> Tensor:
        """Logits of the classes of targets at anchors."""
        image, anchor = anchor // self.anchors, anchor % self.anchors
        logits = torch.zeros(len(anchor), device=self.device)
        for level, cells in enumerate(self.maps):
            start, end = self.starts[level : level + 2]
            here = ((anchor >= start) & (anchor < end)).nonzero().squeeze(1)
            index = memory_index(cells, image[here], self.labels[target[here]], anchor[here] - start)
            logits[here] = memory_order(cells)[index].float()
        return logits

    def _rectangles(self, level: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cells whose centres lie strictly inside each target: left, top, width, height, in cells."""
        stride, (rows, columns) = self.strides[level], self.shapes[level]
        sides = []
        for low, high, cells in (
            (self.targets.x1, self.targets.x2, columns),
            (self.targets.y1, self.targets.y2, rows),
        ):
            # float32 is exact enough: a centre's coordinate is a multiple of half a stride
            begin = ((low / stride - 0.5).floor() + 1).nan_to_num_(0.0).clamp_(0, cells).long()
            end = (high / stride - 0.5).ceil().nan_to_num_(0.0).clamp_(0, cells).long()
            sides.append((begin, (end - begin).clamp_(min=0)))
        (left, width), (top, height) = sides
        return left, top, width, height


def _power(base: Tensor, exponent: float) -> Tensor:
    """``base ** exponent``; squares and cubes are much faster than the general power."""
    if exponent > 2 and exponent % 2 == 0:
        return _power(base, exponent / 2).square()
    return base.pow(exponent)
