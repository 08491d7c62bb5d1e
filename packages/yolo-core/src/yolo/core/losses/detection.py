"""The whole detection loss: assignment, class, box and distance terms of the main and the auxiliary branch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from yolo.core.assign import Assignment, TaskAlignedAssigner
from yolo.core.boxes.cells import dense_cells, gather_cells, memory_index
from yolo.core.boxes.grid import make_grid
from yolo.core.decode import anchor_boxes, branch_shapes, decode_boxes, spread_anchors
from yolo.core.losses.box import ciou_loss
from yolo.core.losses.cls import BinaryCrossEntropy, ClassLoss, Varifocal, class_loss_sum
from yolo.core.losses.config import LossConfig
from yolo.core.losses.dfl import distribution_focal_loss
from yolo.core.outputs import BranchOutput, HeadOutput


@dataclass(frozen=True)
class LossOutput:
    """The loss of a batch.

    Attributes:
        total: scalar to differentiate, per sample: not multiplied by the batch size.
        box: CIoU term with its gain, main and auxiliary together, detached.
        cls: class term, likewise.
        dfl: distance term, likewise.
    """

    total: Tensor
    box: Tensor
    cls: Tensor
    dfl: Tensor


class DetectionLoss:
    """Loss of the published YOLOv9 (arXiv:2402.13616), with the gains and rules of a :class:`LossConfig`.

    Each term is a sum weighted by the soft scores and divided by their total (at least 1) in the batch; class losses
    are summed over all anchors and classes. The branches are assigned separately. A head with anchor boxes (YOLOv7)
    learns by the same assignment and the same terms, from its joint class logits; its distance term is 0.

    A plain callable without parameters or state. Always float32, also under autocast; float64 for float64 predictions.
    """

    def __init__(self, config: LossConfig | None = None) -> None:
        self.config = config = config or LossConfig()
        self.assigner = TaskAlignedAssigner(config.matcher_topk, config.matcher_alpha, config.matcher_beta)
        #: Makes the divisor of all terms from the total of the soft scores; processes that share a batch exchange it.
        self.divisor: Callable[[Tensor], Tensor] = _at_least_one
        #: Share of the auxiliary branch in every term; may be changed between calls.
        self.aux_weight = config.aux_loss_weight
        self.class_loss: ClassLoss = BinaryCrossEntropy()
        if config.cls_loss_type == "vfl":
            self.class_loss = Varifocal(config.cls_vfl_alpha, config.cls_vfl_gamma)

    def __call__(self, output: HeadOutput, boxes: Tensor, labels: Tensor, image_index: Tensor) -> LossOutput:
        """Loss of one batch.

        Args:
            output: raw predictions; the auxiliary branch is optional.
            boxes: ``[N, 4]`` targets of all images, xyxy pixels of the network's input; N may be 0.
            labels: int64 ``[N]``.
            image_index: int64 ``[N]``, position of each target's image in the batch.

        Returns:
            The total, connected to every prediction (a batch without targets gives zero gradients to the distances, not
            none), and its parts.

        Raises:
            YoloError: a label or an image index is out of range.
        """
        config = self.config
        gains = (config.box_loss_weight, config.cls_loss_weight, config.dfl_loss_weight)
        shares = [(output.main, 1.0)] + ([(output.aux, self.aux_weight)] if output.aux is not None else [])
        with torch.autocast(boxes.device.type, enabled=False):
            branches = [
                torch.stack(self.branch_terms(branch, boxes, labels, image_index)) * share for branch, share in shares
            ]
            terms = torch.stack(branches).sum(dim=0)
            terms = terms * torch.tensor(gains, dtype=terms.dtype, device=terms.device)
        return LossOutput(terms.sum(), *terms.detach().unbind())

    def branch_terms(
        self, branch: BranchOutput, boxes: Tensor, labels: Tensor, image_index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Box, class and distance terms of one branch without gains: three scalars with gradients.

        The distance term of a branch with anchor boxes is a constant 0.
        """
        found = self.assign(branch, boxes, labels, image_index)
        normaliser = self.divisor(found.score.sum())
        levels = _by_level(branch, found)
        positions, scores, rows = [], [], []
        for cls, dist, (here, cell) in zip(branch.cls, branch.dist, levels, strict=True):
            image = found.image[here]
            positions.append(memory_index(dense_cells(cls.detach()), image, found.label[here], cell))
            scores.append(found.score[here])
            rows.append(gather_cells(dist, image, cell))
        cls_term = class_loss_sum(self.class_loss, branch.cls, positions, scores)

        logits = torch.cat(rows)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        by_level = torch.cat([here for here, _ in levels])
        anchor, target, score = found.anchor[by_level], found.target[by_level], torch.cat(scores)
        grid = make_grid(branch_shapes(branch), branch.strides, boxes.device, logits.dtype)
        stride = grid.strides[anchor][:, None]
        centre, goal = grid.centers[anchor] / stride, boxes[target].to(logits.dtype) / stride
        if branch.anchors is not None:
            anchor_box = spread_anchors(branch.anchors, branch_shapes(branch), logits)[:, anchor] / stride.t()
            predicted = anchor_boxes(logits.t(), centre.t(), torch.ones_like(stride.t()), anchor_box).t()
            box_term = (ciou_loss(predicted, goal) * score).sum()
            return box_term / normaliser, cls_term / normaliser, box_term.new_zeros(())

        log_p = logits.view(len(logits), 4, logits.shape[1] // 4).log_softmax(dim=-1)
        bins = torch.arange(log_p.shape[2], dtype=logits.dtype, device=logits.device)
        sides = log_p.exp() @ bins
        predicted = torch.cat((centre - sides[:, :2], centre + sides[:, 2:]), dim=1)
        box_term = (ciou_loss(predicted, goal) * score).sum()
        distances = torch.cat((centre - goal[:, :2], goal[:, 2:] - centre), dim=1)
        dfl_term = (distribution_focal_loss(log_p, distances) * score).sum()
        return box_term / normaliser, cls_term / normaliser, dfl_term / normaliser

    @torch.no_grad()
    def assign(self, branch: BranchOutput, boxes: Tensor, labels: Tensor, image_index: Tensor) -> Assignment:
        """The positives of one branch; the arguments are those of a call."""
        # In parts: the softmax of a whole batch would be as large as the predictions.
        step = 4 if boxes.device.type == "cpu" else 16
        parts = zip(*(torch.split(scale, step) for scale in branch.dist), strict=True)
        predicted = torch.cat([decode_boxes(replace(branch, dist=part)) for part in parts])
        return self.assigner(branch.cls, predicted, branch.strides, boxes, labels, image_index)


def _at_least_one(total: Tensor) -> Tensor:
    return total.clamp(min=1)


def _by_level(branch: BranchOutput, found: Assignment) -> list[tuple[Tensor, Tensor]]:
    """Per scale: which positives lie there, and in which cells."""
    levels, start = [], 0
    for height, width in branch_shapes(branch):
        end = start + height * width
        here = ((found.anchor >= start) & (found.anchor < end)).nonzero().squeeze(1)
        levels.append((here, found.anchor[here] - start))
        start = end
    return levels
