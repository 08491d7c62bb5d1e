"""The loss of a head with anchor boxes: the same rules, other boxes, no distance term."""

from __future__ import annotations

import pytest
import torch

from yolo.core.boxes.iou import ciou
from yolo.core.decode import decode
from yolo.core.losses import DetectionLoss, LossConfig
from yolo.core.outputs import BranchOutput, HeadOutput

SHAPES, STRIDES = [(8, 10), (8, 10), (4, 5)], (8, 8, 16)
ANCHORS = ((16.0, 20.0), (40.0, 30.0), (50.0, 60.0))
BOXES = torch.tensor([[8.0, 8.0, 40.0, 50.0], [30.0, 2.0, 78.0, 60.0], [5.0, 40.0, 20.0, 62.0]])
LABELS, IMAGE = torch.tensor([1, 0, 2]), torch.tensor([0, 0, 2])


def branch(seed: int = 0, dtype: torch.dtype = torch.float32) -> BranchOutput:
    generator = torch.Generator().manual_seed(seed)
    cls = tuple((torch.randn(3, 3, *s, generator=generator) - 2).to(dtype).requires_grad_() for s in SHAPES)
    dist = tuple(torch.randn(3, 4, *s, generator=generator).to(dtype).requires_grad_() for s in SHAPES)
    return BranchOutput(cls, dist, STRIDES, ANCHORS)


def leaves(output: BranchOutput) -> list[torch.Tensor]:
    return [*output.cls, *output.dist]


def test_terms_are_those_of_the_decoded_boxes() -> None:
    """Box: score times 1 - CIoU in pixels (it knows no unit); class: cross entropy over everything. Gradients, too."""
    output = branch(dtype=torch.float64)
    loss = DetectionLoss()
    found = loss.assign(output, BOXES, LABELS, IMAGE)
    assert len(found.anchor) > 5
    decoded = decode(output)
    scores = torch.zeros_like(decoded.scores)
    scores[found.image, found.anchor, found.label] = found.score.double()
    normaliser = found.score.sum().clamp(min=1).double()
    overlap = ciou(decoded.boxes[found.image, found.anchor], BOXES[found.target].double())
    cls = torch.nn.functional.binary_cross_entropy(decoded.scores, scores, reduction="sum")
    terms = loss.branch_terms(output, BOXES, LABELS, IMAGE)
    box = ((1 - overlap) * found.score).sum()
    for term, plain, maps in ((terms[0], box, output.dist), (terms[1], cls, output.cls)):
        torch.testing.assert_close(term, plain / normaliser, rtol=1e-6, atol=0)
        ours = torch.autograd.grad(term, maps, retain_graph=True)
        theirs = torch.autograd.grad(plain / normaliser, maps, retain_graph=True)
        assert all(gradient.any() for gradient in ours)
        for left, right in zip(ours, theirs, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-9)
    assert terms[2] == 0


@pytest.mark.parametrize("kind", ["bce", "vfl"])
def test_batch_without_targets(kind: str) -> None:
    output = branch()
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    result = DetectionLoss(LossConfig(cls_loss_type=kind))(HeadOutput(output), *nothing)
    result.total.backward()
    assert result.total > 0 and result.box == 0 and result.dfl == 0
    assert all(m.grad is not None and (m.grad > 0).all() for m in output.cls)
    assert all(m.grad is not None and (m.grad == 0).all() for m in output.dist)


def test_memory_layout_and_precision_do_not_matter() -> None:
    output = branch()
    expected = DetectionLoss()(HeadOutput(output), BOXES, LABELS, IMAGE)
    turned = [m.detach().to(memory_format=torch.channels_last).requires_grad_() for m in leaves(output)]
    result = DetectionLoss()(
        HeadOutput(BranchOutput(tuple(turned[:3]), tuple(turned[3:]), STRIDES, ANCHORS)), BOXES, LABELS, IMAGE
    )
    torch.testing.assert_close(result.total, expected.total)
    result.total.backward()
    expected.total.backward()
    for ours, theirs in zip(turned, leaves(output), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    half = branch(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = DetectionLoss()(HeadOutput(half), BOXES, LABELS, IMAGE)
    assert result.total.dtype == torch.float32 and bool(result.total.isfinite())


def test_learns() -> None:
    """A few steps on free logits find the boxes."""
    output = branch(9)
    loss, optimiser = DetectionLoss(), torch.optim.Adam(leaves(output), lr=0.2)
    history = []
    for _ in range(60):
        optimiser.zero_grad()
        result = loss(HeadOutput(output), BOXES, LABELS, IMAGE)
        result.total.backward()
        optimiser.step()
        history.append(result.total.item())
    assert history[-1] < 0.1 * history[0]
    assert result.box < 0.5
