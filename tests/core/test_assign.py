"""Assignment against the published one, and against the rules written out densely."""

from __future__ import annotations

import math
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from yolo.core import assign
from yolo.core.assign import Assignment, TaskAlignedAssigner
from yolo.core.boxes import make_grid
from yolo.core.errors import YoloError

SHAPES, STRIDES = [(8, 10), (4, 5), (2, 3)], (8, 16, 32)  # 80 x 64 pixels


def ciou(a: np.ndarray, b: np.ndarray) -> float:
    eps = 1e-7
    w1, h1, w2, h2 = a[2] - a[0], a[3] - a[1] + eps, b[2] - b[0], b[3] - b[1] + eps
    inter = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    iou = inter / (w1 * h1 + w2 * h2 - inter + eps)
    cw, ch = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    rho = ((a[0] + a[2] - b[0] - b[2]) ** 2 + (a[1] + a[3] - b[1] - b[3]) ** 2) / 4
    v = 4 / math.pi**2 * (math.atan(w1 / h1) - math.atan(w2 / h2)) ** 2
    return iou - rho / (cw**2 + ch**2 + eps) - v * v / (v - iou + 1 + eps)


def dense(logits, predicted, boxes, labels, image_index, topk=10, alpha=0.5, beta=6.0):
    """The rules of the published assignment, one loop per rule. Returns {(image, anchor): (target, score)}."""
    centres = make_grid(SHAPES, STRIDES).centers.double().numpy()
    prob = torch.cat([m.flatten(2) for m in logits], 2).double().sigmoid().numpy()
    result = {}
    for image in range(len(prob)):
        rows = [n for n in range(len(boxes)) if image_index[n] == image]
        overlap, metric, chosen = {}, {}, {}
        for n in rows:
            box = boxes[n].double().numpy()
            for a in range(len(centres)):
                overlap[n, a] = max(0.0, ciou(box, predicted[image, :, a].double().numpy()))
                metric[n, a] = prob[image, labels[n], a] ** alpha * overlap[n, a] ** beta
            cx, cy = centres[:, 0], centres[:, 1]
            inside = (cx > box[0]) & (cx < box[2]) & (cy > box[1]) & (cy < box[3])
            candidates = [a for a in np.flatnonzero(inside) if metric[n, a] > 0]
            for a in sorted(candidates, key=lambda a: (-metric[n, a], a))[:topk]:
                chosen.setdefault(int(a), []).append(n)
        kept = {}
        for a, claims in chosen.items():
            kept[a] = claims[0] if len(claims) == 1 else max(rows, key=lambda n: (overlap[n, a], -n))
        for a, n in kept.items():
            mine = [b for b, m in kept.items() if m == n]
            best, largest = max(metric[n, b] for b in mine), max(overlap[n, b] for b in mine)
            result[image, a] = n, metric[n, a] / (best + 1e-9) * largest
    return result


def scene(seed: int, targets: int, batch: int = 3, *, noise: float = 6.0):
    """Predictions near the truth, and crowded boxes that also leave the canvas."""
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(batch, 4, *shape, generator=generator) for shape in SHAPES]
    centre = torch.rand(targets, 2, generator=generator) * torch.tensor([80.0, 64.0])
    half = torch.rand(targets, 2, generator=generator) * 30
    boxes = torch.cat((centre - half, centre + half), dim=1)
    labels = torch.randint(4, (targets,), generator=generator)
    image = torch.randint(batch, (targets,), generator=generator)
    grid = make_grid(SHAPES, STRIDES)
    predicted = torch.zeros(batch, 4, len(grid.centers))
    for i in range(batch):
        mine = boxes[image == i]
        for a, c in enumerate(grid.centers):
            near = mine[(mine.view(-1, 2, 2).mean(1) - c).square().sum(1).argmin()] if len(mine) else torch.zeros(4)
            predicted[i, :, a] = near + noise * torch.randn(4, generator=generator)
    return logits, predicted, boxes, labels, image


def listed(found: Assignment) -> dict[tuple[int, int], tuple[int, float]]:
    keys = list(zip(found.image.tolist(), found.anchor.tolist(), strict=True))
    assert keys == sorted(set(keys))  # by image and anchor, each once
    return dict(zip(keys, zip(found.target.tolist(), found.score.tolist(), strict=True), strict=True))


@pytest.mark.parametrize(("seed", "targets", "topk"), [(0, 1, 10), (1, 12, 10), (2, 40, 10), (3, 25, 3), (4, 30, 1)])
@pytest.mark.parametrize("pairs", [1 << 18, 7])
def test_equals_the_rules_written_densely(seed, targets, topk, pairs, monkeypatch):
    monkeypatch.setitem(assign._PAIRS, "cpu", pairs)  # 7: everything goes through many small blocks
    case = scene(seed, targets)
    logits, predicted, boxes, labels, image = case
    found = TaskAlignedAssigner(topk=topk)(logits, predicted, STRIDES, boxes, labels, image)
    assert torch.equal(found.label, labels[found.target])
    expected, ours = dense(*case, topk=topk), listed(found)
    assert {k: v[0] for k, v in ours.items()} == {k: v[0] for k, v in expected.items()}
    assert [v[1] for v in ours.values()] == pytest.approx([expected[k][1] for k in ours], abs=1e-5)


def test_other_exponents():
    case = scene(5, 20)
    found = TaskAlignedAssigner(alpha=1.0, beta=2.5)(*case[:2], STRIDES, *case[2:])
    expected = dense(*case, alpha=1.0, beta=2.5)
    assert {k: v[0] for k, v in listed(found).items()} == {k: v[0] for k, v in expected.items()}


def one(boxes: list[list[float]], predicted: torch.Tensor | None = None, **rule) -> Assignment:
    grid = make_grid(SHAPES, STRIDES)
    if predicted is None:
        half = 4 * grid.strides[:, None]
        predicted = torch.cat((grid.centers - half, grid.centers + half), dim=1).t()[None]
    logits = [torch.zeros(1, 2, *shape) for shape in SHAPES]
    zeros = torch.zeros(len(boxes), dtype=torch.long)
    return TaskAlignedAssigner(**rule)(logits, predicted, STRIDES, torch.tensor(boxes).reshape(-1, 4), zeros, zeros)


def test_the_inside_test_is_open():
    predicted = torch.tensor([12.0, 12.0, 28.0, 28.0])[None, :, None].expand(1, 4, 106)
    found = one([[12.0, 12.0, 28.0, 28.0]], predicted, topk=50)  # edges exactly on centres of the finest scale
    fine = [a for a in found.anchor.tolist() if a < 80]
    assert fine == [2 * 10 + 2]  # only (20, 20); with closed edges it would be nine
    shifted = one([[12.0 - 1e-6, 12.0, 28.0, 28.0]], predicted, topk=50)
    assert [a for a in shifted.anchor.tolist() if a < 80] == [22, 21][::-1]


@pytest.mark.parametrize(
    "box",
    [
        [13.0, 13.0, 15.0, 15.0],  # no centre inside
        [20.0, 5.0, 20.0, 60.0],  # no width
        [30.0, 30.0, 30.0, 30.0],
        [50.0, 50.0, 20.0, 20.0],  # turned over
        [-500.0, -500.0, -100.0, -100.0],
        [1e9, 1e9, 2e9, 2e9],
    ],
)
def test_boxes_without_candidates_get_nothing_and_disturb_nobody(box):
    assert len(one([box]).anchor) == 0
    good = [8.0, 8.0, 56.0, 56.0]
    assert torch.equal(one([good, box, good]).anchor, one([good]).anchor)


def test_box_larger_than_the_image_takes_anchors_of_every_scale():
    predicted = torch.tensor([-100.0, -100.0, 200.0, 200.0])[None, :, None].expand(1, 4, 106)
    found = one([[-100.0, -100.0, 200.0, 200.0]], predicted, topk=1000)
    assert found.anchor.tolist() == list(range(106))
    torch.testing.assert_close(found.score, torch.ones(106))
    assert one([[-100.0, -100.0, 200.0, 200.0]], predicted, topk=7).anchor.tolist() == list(range(7))  # ties: low index


def test_exact_duplicates_go_to_the_lower_index():
    found = one([[8.0, 8.0, 56.0, 56.0]] * 3)
    assert len(found.target) == 10
    assert set(found.target.tolist()) == {0}


def test_no_targets_at_all():
    found = one([])
    assert [len(part) for part in vars(found).values()] == [0] * 5


def test_channels_last_and_half_precision_logits():
    logits, predicted, boxes, labels, image = scene(6, 30)
    expected = TaskAlignedAssigner()(logits, predicted, STRIDES, boxes, labels, image)
    turned = [m.to(memory_format=torch.channels_last) for m in logits]
    sliced = [torch.cat((m, m), dim=1)[:, :4] for m in logits]  # neither layout: copied
    for other in (turned, sliced):
        found = TaskAlignedAssigner()(other, predicted, STRIDES, boxes, labels, image)
        for ours, theirs in zip(vars(found).values(), vars(expected).values(), strict=True):
            assert torch.equal(ours, theirs)
    half = TaskAlignedAssigner()([m.half() for m in logits], predicted, STRIDES, boxes, labels, image)
    assert half.score.dtype == torch.float32


def test_a_diverged_network_raises_nothing():
    logits, predicted, boxes, labels, image = scene(7, 10)
    found = TaskAlignedAssigner()([m * float("nan") for m in logits], predicted, STRIDES, boxes, labels, image)
    assert len(found.anchor) == 0
    TaskAlignedAssigner()(logits, predicted * float("nan"), STRIDES, boxes, labels, image)


@pytest.mark.parametrize(("label", "image", "message"), [(4, 0, "class 4"), (-1, 0, "class -1"), (0, 3, "image 3")])
def test_impossible_targets_are_named(label: int, image: int, message: str):
    logits, predicted, *_ = scene(8, 1)
    target = torch.tensor([[1.0, 1.0, 9.0, 9.0]]), torch.tensor([label]), torch.tensor([image])
    with pytest.raises(YoloError, match=message):
        TaskAlignedAssigner()(logits, predicted, STRIDES, *target)


HOSTILE = """
import resource, sys, torch
from yolo.core.assign import TaskAlignedAssigner
from yolo.core.boxes import make_grid
torch.set_num_threads(1)
count, side = int(sys.argv[1]), float(sys.argv[2])
shapes = [(40, 40), (20, 20), (10, 10)]
grid = make_grid(shapes, (8, 16, 32))
generator = torch.Generator().manual_seed(0)
logits = [torch.randn(4, 3, *shape, generator=generator) for shape in shapes]
half = 2 * grid.strides[:, None]
predicted = torch.cat((grid.centers - half, grid.centers + half), 1).t()[None].expand(4, -1, -1).contiguous()
centre = torch.rand(count, 2, generator=generator) * 320
boxes = torch.cat((centre - side / 2, centre + side / 2), 1)
labels, image = torch.zeros(count, dtype=torch.long), torch.full((count,), 2)
rule = TaskAlignedAssigner()
rule(logits, predicted, (8, 16, 32), boxes[:2], labels[:2], image[:2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = rule(logits, predicted, (8, 16, 32), boxes, labels, image)
print(len(found.anchor), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(not hasattr(resource, "getrusage"), reason="needs getrusage")
def test_memory_is_bounded_with_25000_boxes_on_one_image():
    """Boxes times anchors would be 210 MB per float32 tensor of one image, 840 MB for the batch."""
    done = subprocess.run([sys.executable, "-c", HOSTILE, "25000", "32"], capture_output=True, text=True, check=True)
    positives, grown = done.stdout.split()
    assert int(positives) > 1000
    assert float(grown) < 150
