"""How the loss behaves: no targets, precision, gradients, settings, memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from yolo.core.boxes import make_grid
from yolo.core.errors import UsageError
from yolo.core.losses import DetectionLoss, LossConfig
from yolo.core.losses.cls import BinaryCrossEntropy, Varifocal, class_loss_sum
from yolo.core.losses.dfl import distribution_focal_loss
from yolo.core.outputs import BranchOutput, HeadOutput

SHAPES, STRIDES = [(8, 10), (4, 5), (2, 3)], (8, 16, 32)
BOXES = torch.tensor([[8.0, 8.0, 40.0, 50.0], [30.0, 2.0, 78.0, 60.0], [5.0, 40.0, 20.0, 62.0]])
LABELS, IMAGE = torch.tensor([1, 0, 2]), torch.tensor([0, 0, 2])
NOTHING = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)


def branch(seed: int = 0, dtype: torch.dtype = torch.float32, batch: int = 3) -> BranchOutput:
    generator = torch.Generator().manual_seed(seed)
    cls = tuple((torch.randn(batch, 3, *s, generator=generator) - 2).to(dtype).requires_grad_() for s in SHAPES)
    dist = tuple(torch.randn(batch, 64, *s, generator=generator).to(dtype).requires_grad_() for s in SHAPES)
    return BranchOutput(cls, dist, STRIDES)


def leaves(output: HeadOutput) -> list[torch.Tensor]:
    branches = [output.main] + ([output.aux] if output.aux else [])
    return [m for part in branches for m in (*part.cls, *part.dist)]


@pytest.mark.parametrize("kind", ["bce", "vfl"])
def test_batch_without_targets(kind):
    output = HeadOutput(branch(), branch(1))
    result = DetectionLoss(LossConfig(cls_loss_type=kind))(output, *NOTHING)
    result.total.backward()
    assert result.total.isfinite()
    assert result.total > 0
    assert result.box == 0
    assert result.dfl == 0
    for part in (output.main, output.aux):
        assert part is not None
        assert all(m.grad is not None and (m.grad > 0).all() for m in part.cls)  # every logit learns "nothing here"
        assert all(m.grad is not None and (m.grad == 0).all() for m in part.dist)  # zero, not missing: DDP waits for it


def test_image_without_targets_and_a_tiny_target_beside_others():
    output = HeadOutput(branch())
    tiny = torch.cat((BOXES, torch.tensor([[13.0, 13.0, 14.0, 14.0], [20.0, 20.0, 20.0, 20.0]])))
    result = DetectionLoss()(output, tiny, torch.tensor([1, 0, 2, 1, 1]), torch.tensor([0, 0, 2, 0, 2]))
    result.total.backward()
    assert result.total.isfinite()
    for leaf in leaves(output):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    assert all((m.grad[1] == 0).all() for m in output.main.dist)  # type: ignore[index]  # the image without targets
    alone = DetectionLoss()(HeadOutput(branch()), BOXES, LABELS, IMAGE)
    torch.testing.assert_close(result.total, alone.total)


def test_missing_auxiliary_branch_and_its_share():
    main, aux = branch(), branch(1)
    loss = DetectionLoss(LossConfig(aux_loss_weight=0.5))
    both = loss(HeadOutput(main, aux), BOXES, LABELS, IMAGE)
    parts = [loss(HeadOutput(part), BOXES, LABELS, IMAGE) for part in (main, aux)]
    for name in ("total", "box", "cls", "dfl"):
        first, second = (getattr(part, name) for part in parts)
        torch.testing.assert_close(getattr(both, name), first + 0.5 * second)
    torch.testing.assert_close(both.total.detach(), both.box + both.cls + both.dfl)
    assert not both.box.requires_grad


def test_gains():
    output = HeadOutput(branch())
    plain = DetectionLoss(LossConfig(box_loss_weight=1, cls_loss_weight=1, dfl_loss_weight=1))(
        output, BOXES, LABELS, IMAGE
    )
    default = DetectionLoss()(output, BOXES, LABELS, IMAGE)
    for name, gain in (("box", 7.5), ("cls", 0.5), ("dfl", 1.5)):
        torch.testing.assert_close(getattr(default, name), gain * getattr(plain, name))


@pytest.mark.parametrize("kind", ["bce", "vfl"])
def test_float32_under_autocast(kind):
    loss = DetectionLoss(LossConfig(cls_loss_type=kind))
    half = HeadOutput(branch(dtype=torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = loss(half, BOXES, LABELS, IMAGE)
    assert result.total.dtype == torch.float32
    exact = HeadOutput(
        BranchOutput(
            *(tuple(m.detach().float().requires_grad_() for m in maps) for maps in (half.main.cls, half.main.dist)),
            STRIDES,
        )
    )
    expected = loss(exact, BOXES, LABELS, IMAGE)
    torch.testing.assert_close(result.total, expected.total)
    (result.total * 1024).backward()  # as a gradient scaler does
    (expected.total * 1024).backward()
    for ours, theirs in zip(leaves(half), leaves(exact), strict=True):
        assert ours.grad is not None
        assert ours.grad.dtype == torch.bfloat16
        torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=1e-2, atol=1e-3)


def test_float16_logits_with_a_large_loss_scale_do_not_overflow():
    output = HeadOutput(branch(dtype=torch.float16))
    result = DetectionLoss()(output, BOXES, LABELS, IMAGE)
    (result.total * 4096).backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves(output))


@pytest.mark.parametrize("kind", ["bce", "vfl"])
def test_gradient_is_the_derivative(kind):
    """Along random directions, in float64; the assignment and the trade-off weight of CIoU are constants."""
    loss = DetectionLoss(LossConfig(cls_loss_type=kind, box_loss_weight=0))
    output = HeadOutput(branch(2, torch.float64))
    fixed = loss.assign(output.main, BOXES, LABELS, IMAGE)
    loss.assign = lambda *_: fixed  # type: ignore[method-assign]
    loss(output, BOXES, LABELS, IMAGE).total.backward()
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        step = [torch.randn(leaf.shape, generator=generator, dtype=torch.float64) for leaf in leaves(output)]
        slope = sum((leaf.grad * d).sum().item() for leaf, d in zip(leaves(output), step, strict=True))
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                moved = [leaf + sign * 1e-5 * d for leaf, d in zip(leaves(output), step, strict=True)]
            other = HeadOutput(BranchOutput(tuple(moved[:3]), tuple(moved[3:]), STRIDES))
            values.append(loss(other, BOXES, LABELS, IMAGE).total.item())
        assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def positives(maps, generator):
    """Random sparse soft targets, as dense maps and as flat positions."""
    dense, positions, scores = [], [], []
    for m in maps:
        position = torch.randperm(m.numel(), generator=generator)[:20]
        score = torch.rand(20, generator=generator, dtype=m.dtype)
        score[0] = 0
        target = torch.zeros_like(m.detach())
        target.view(-1)[position] = score
        dense.append(target)
        positions.append(position)
        scores.append(score)
    return dense, positions, scores


def test_class_sum_is_plain_bce():
    generator = torch.Generator().manual_seed(3)
    maps = [(torch.randn(2, 5, h, w, generator=generator, dtype=torch.float64) * 8).requires_grad_() for h, w in SHAPES]
    dense, *flat = positions = positives(maps, generator)
    assert len(positions) == 3
    value = class_loss_sum(BinaryCrossEntropy(), maps, *flat)
    expected = sum(binary_cross_entropy_with_logits(m, t, reduction="sum") for m, t in zip(maps, dense, strict=True))
    torch.testing.assert_close(value, expected)
    for ours, theirs in zip(torch.autograd.grad(value, maps), torch.autograd.grad(expected, maps), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (0.5, 1.0), (1.0, 0.0)])
def test_class_sum_is_plain_varifocal(alpha, gamma):
    generator = torch.Generator().manual_seed(4)
    maps = [(torch.randn(2, 5, h, w, generator=generator, dtype=torch.float64) * 3).requires_grad_() for h, w in SHAPES]
    dense, *flat = positives(maps, generator)
    value = class_loss_sum(Varifocal(alpha, gamma), maps, *flat)
    expected = torch.zeros((), dtype=torch.float64)
    for m, q in zip(maps, dense, strict=True):
        p = m.sigmoid()
        weight = torch.where(q > 0, q, alpha * p**gamma)
        expected = expected + (weight * -(q * p.log() + (1 - q) * (1 - p).log())).sum()
    torch.testing.assert_close(value, expected)
    for ours, theirs in zip(torch.autograd.grad(value, maps), torch.autograd.grad(expected, maps), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("rule", [BinaryCrossEntropy(), Varifocal()])
def test_extreme_logits_are_finite(rule):
    maps = [torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4]).view(1, 1, 1, 5).requires_grad_()]
    value = class_loss_sum(rule, maps, [torch.tensor([0, 4])], [torch.tensor([0.5, 1.0])])
    value.backward()
    assert value.isfinite()
    assert maps[0].grad is not None
    assert maps[0].grad.isfinite().all()


def test_class_sum_is_accurate_for_many_small_terms():
    maps = [torch.full((4, 80, 80, 80), -11.5)]  # a fresh network: ten million nearly equal small numbers
    empty = [torch.zeros(0, dtype=torch.long)], [torch.zeros(0)]
    expected = maps[0].numel() * torch.nn.functional.softplus(torch.tensor(-11.5, dtype=torch.float64)).item()
    assert class_loss_sum(BinaryCrossEntropy(), maps, *empty).item() == pytest.approx(expected, rel=1e-6)


def test_distribution_loss_is_interpolated_cross_entropy():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(6, 4, 16, generator=generator)
    distances = torch.tensor([[0.0, 3.25, 14.99, 7.0], [-2.0, 99.0, 0.5, 14.0]]).repeat(3, 1)
    ours = distribution_focal_loss(logits.log_softmax(-1), distances)
    limited = distances.clamp(0, 14.99)
    low = limited.floor().long()
    near, far = (cross_entropy(logits.view(-1, 16), (low + i).view(-1), reduction="none").view(6, 4) for i in (0, 1))
    torch.testing.assert_close(ours, (near * (low + 1 - limited) + far * (limited - low)).mean(1))


def test_perfect_predictions_have_nearly_no_box_loss():
    grid = make_grid(SHAPES, STRIDES)
    boxes = torch.tensor([[16.0, 16.0, 48.0, 48.0]])
    sides = torch.cat((grid.centers - boxes[:, :2], boxes[:, 2:] - grid.centers), dim=1) / grid.strides[:, None]
    sides = sides.clamp(0, 15)
    bins = torch.arange(16.0)
    flat = (
        (1 - (sides[..., None] - bins).abs()).clamp(min=1e-9).log().flatten(1).t()[None]
    )  # linear weights of two bins
    dist = [part.reshape(1, 64, h, w) for part, (h, w) in zip(flat.split([80, 20, 6], dim=2), SHAPES, strict=True)]
    cls = [torch.full((1, 3, h, w), 3.0) for h, w in SHAPES]
    result = DetectionLoss()(HeadOutput(BranchOutput(tuple(cls), tuple(dist), STRIDES)), boxes, LABELS[:1], IMAGE[:1])
    assert result.box < 1e-3
    worse = BranchOutput(tuple(cls), tuple(m.roll(1, 1) for m in dist), STRIDES)
    assert DetectionLoss()(HeadOutput(worse), boxes, LABELS[:1], IMAGE[:1]).box > 0.1


def test_learns():
    """A few steps on free logits find the boxes."""
    output = HeadOutput(branch(9), branch(10))
    loss, optimiser = DetectionLoss(), torch.optim.Adam(leaves(output), lr=0.2)
    history = []
    for _ in range(60):
        optimiser.zero_grad()
        result = loss(output, BOXES, LABELS, IMAGE)
        (result.total * 3).backward()
        optimiser.step()
        history.append(result.total.item())
    assert history[-1] < 0.1 * history[0]
    assert result.box < 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"matcher_topk": 0},
        {"cls_loss_type": "focal"},
        {"box_loss_weight": -1.0},
        {"matcher_beta": float("inf")},
        {"cls_vfl_gamma": float("nan")},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        LossConfig(**wrong)


def test_settings_import_without_torch_and_the_loss_is_no_module():
    code = "import sys, yolo.core.losses as l; l.LossConfig(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not isinstance(DetectionLoss(), torch.nn.Module)  # a module would put the loss into every state dict
