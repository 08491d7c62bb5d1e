"""What must hold for any batch."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo.core.losses import DetectionLoss, LossConfig
from yolo.core.outputs import BranchOutput, HeadOutput

SHAPES, STRIDES = [(6, 8), (3, 4), (2, 2)], (8, 16, 32)
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)


def problem(seed: int, targets: int, batch: int = 2):
    generator = torch.Generator().manual_seed(seed)
    cls = tuple(torch.randn(batch, 4, *shape, generator=generator) for shape in SHAPES)
    dist = tuple(torch.randn(batch, 64, *shape, generator=generator) * 2 for shape in SHAPES)
    corner = torch.rand(targets, 2, generator=generator) * 60 - 10
    boxes = torch.cat((corner, corner + torch.rand(targets, 2, generator=generator) * 60), dim=1)
    labels = torch.randint(4, (targets,), generator=generator)
    image = torch.randint(batch, (targets,), generator=generator)
    return HeadOutput(BranchOutput(cls, dist, STRIDES)), boxes, labels, image


@quick
@given(seeds, st.integers(0, 12), st.sampled_from(["bce", "vfl"]))
def test_order_of_targets_does_not_matter(seed: int, targets: int, kind):
    output, boxes, labels, image = problem(seed, targets)
    loss = DetectionLoss(LossConfig(cls_loss_type=kind))
    order = torch.randperm(targets, generator=torch.Generator().manual_seed(seed + 1))
    plain, shuffled = loss(output, boxes, labels, image), loss(output, boxes[order], labels[order], image[order])
    torch.testing.assert_close(plain.total, shuffled.total)
    for name in ("box", "cls", "dfl"):
        value = getattr(plain, name)
        assert value.isfinite()
        assert value >= 0


@quick
@given(seeds, st.integers(1, 12))
def test_positives_are_inside_and_few_and_scores_are_fractions(seed: int, targets: int):
    output, boxes, labels, image = problem(seed, targets)
    found = DetectionLoss().assign(output.main, boxes, labels, image)
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert torch.equal(image[found.target], found.image)
    assert len(set(zip(found.image.tolist(), found.anchor.tolist(), strict=True))) == len(found.anchor)
    assert len(found.anchor) <= 10 * targets


@quick
@given(seeds, st.integers(1, 8))
def test_two_copies_of_a_batch_have_the_same_mean(seed: int, targets: int):
    """The loss is per unit of assigned score: a doubled batch changes nothing (above the floor of the normaliser)."""
    output, boxes, labels, image = problem(seed, targets)
    loss, main = DetectionLoss(), output.main
    if loss.assign(main, boxes, labels, image).score.sum() < 1:
        return
    twice = BranchOutput(*(tuple(m.repeat(2, 1, 1, 1) for m in maps) for maps in (main.cls, main.dist)), STRIDES)
    doubled = loss(HeadOutput(twice), boxes.repeat(2, 1), labels.repeat(2), torch.cat((image, image + 2)))
    torch.testing.assert_close(doubled.total, loss(output, boxes, labels, image).total)


@quick
@given(seeds, st.integers(1, 8))
def test_images_are_assigned_independently(seed: int, targets: int):
    output, boxes, labels, image = problem(seed, targets)
    loss, main = DetectionLoss(), output.main
    found = loss.assign(main, boxes, labels, image)
    for i in (0, 1):
        alone = BranchOutput(*(tuple(m[i : i + 1] for m in maps) for maps in (main.cls, main.dist)), STRIDES)
        mine = image == i
        part = loss.assign(alone, boxes[mine], labels[mine], torch.zeros(int(mine.sum()), dtype=torch.long))
        assert torch.equal(part.anchor, found.anchor[found.image == i])
        torch.testing.assert_close(part.score, found.score[found.image == i])
