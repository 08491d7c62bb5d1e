"""The loss against the numbers of the published code: values, assignments, gradients."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo.core.losses import DetectionLoss, LossConfig
from yolo.core.outputs import BranchOutput, HeadOutput

GOLDEN = Path(__file__).parents[1] / "golden" / "loss.json"
SHAPES, STRIDES = ((32, 40), (16, 20), (8, 10)), (8, 16, 32)


def unpack(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype)


def branch(cls: np.ndarray, dist: np.ndarray, layout: torch.memory_format = torch.contiguous_format) -> BranchOutput:
    """From int8 [B, channels, anchors], as leaves."""
    scales: list[list[torch.Tensor]] = [[], []]
    for maps, values, unit in zip(scales, (cls, dist), (16, 4), strict=True):
        start = 0
        for h, w in SHAPES:
            part = torch.from_numpy(values[:, :, start : start + h * w].astype(np.float32) / unit)
            maps.append(part.reshape(*part.shape[:2], h, w).contiguous(memory_format=layout).requires_grad_())
            start += h * w
    return BranchOutput(tuple(scales[0]), tuple(scales[1]), STRIDES)


def targets(images: list[list[list[float]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = torch.tensor([(i, *t) for i, image in enumerate(images) for t in image]).reshape(-1, 6)
    return rows[:, 2:], rows[:, 1].long(), rows[:, 0].long()


@pytest.mark.parametrize("topk", [10, 13])
@pytest.mark.parametrize("image", range(3))
def test_compact_golden(topk: int, image: int):
    case = json.loads(GOLDEN.read_text())["images"][image]
    dist = np.zeros((1, 64, 1680), np.int8)
    inside = unpack(case["dist_anchors"], "uint16")
    dist[0][:, inside] = unpack(case["dist"], "int8").reshape(64, len(inside))
    output = branch(unpack(case["cls"], "int8").reshape(1, 10, 1680), dist)
    expected = case["expected"][f"topk{topk}"]
    loss, target = DetectionLoss(LossConfig(matcher_topk=topk)), targets([case["targets"]])
    found = loss.assign(output, *target)
    assert found.anchor.tolist() == expected["anchor"]
    assert found.target.tolist() == expected["target"]
    np.testing.assert_allclose(found.score, expected["score"], atol=1e-5)
    for name, value in zip(("box", "cls", "dfl"), loss.branch_terms(output, *target), strict=True):
        assert value.item() == pytest.approx(expected[name], rel=2e-5)


@pytest.fixture(scope="module")
def published(reference: Path) -> tuple[dict, dict, dict, list]:
    folder = reference / "loss"
    inputs, arrays = np.load(folder / "inputs.npz"), np.load(folder / "official.npz")
    cases = json.loads((folder / "official.json").read_text())["cases"]
    return dict(inputs), dict(arrays), cases, json.loads((folder / "inputs.json").read_text())["targets"]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("topk", [10, 13])
def test_whole_batch(published, topk: int, layout: torch.memory_format):
    inputs, arrays, cases, images = published
    case, target = cases[f"topk{topk}"], targets(images)
    first = torch.searchsorted(target[2], torch.arange(8))
    output = HeadOutput(*(branch(inputs[f"{n}_cls_i8"], inputs[f"{n}_dist_i8"], layout) for n in ("main", "aux")))
    loss = DetectionLoss(LossConfig(matcher_topk=topk))
    result = loss(output, *target)
    assert result.total.item() == pytest.approx(case["total_per_sample_weighted_sum"], rel=2e-5)
    for name, value in case["logged"].items():
        assert getattr(result, name).item() == pytest.approx(value, rel=2e-5)
    result.total.backward()
    for name, part in (("main", output.main), ("aux", output.aux)):
        found, prefix = loss.assign(part, *target), f"official_topk{topk}_{name}_"
        golden = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        assert np.array_equal(found.image, golden["fg_image"])
        assert np.array_equal(found.anchor, golden["fg_anchor"])
        assert np.array_equal(found.target - first[found.image], golden["fg_gt"])
        assert np.array_equal(found.label, golden["fg_class"])
        np.testing.assert_allclose(found.score, golden["fg_score"], atol=1e-5)
        for term, value in zip(("box", "cls", "dfl"), loss.branch_terms(part, *target), strict=True):
            assert value.item() == pytest.approx(case[f"{name}_{term}"], rel=2e-5)
        for kind, maps, step in (("cls", part.cls, 97), ("dist", part.dist, 997)):
            ours = torch.cat([m.grad.flatten(2) for m in maps], dim=2)
            summary = case[name]
            assert ours.double().norm().item() == pytest.approx(summary[f"grad_{kind}_l2"], rel=2e-5)
            assert ours.double().abs().sum().item() == pytest.approx(summary[f"grad_{kind}_abs_sum"], rel=2e-5)
            if topk == 10:
                strided = golden[f"grad_{kind}_stride{step}"]
                np.testing.assert_allclose(ours.flatten()[::step], strided, rtol=2e-4, atol=1e-8)


@pytest.mark.parametrize("topk", [10, 13])
def test_each_image_alone(published, topk: int):
    inputs, _, cases, images = published
    loss = DetectionLoss(LossConfig(matcher_topk=topk))
    for i, expected in enumerate(cases[f"topk{topk}"]["per_image_batch1"]):
        parts = [branch(inputs[f"{n}_cls_i8"][i : i + 1], inputs[f"{n}_dist_i8"][i : i + 1]) for n in ("main", "aux")]
        target = targets([images[i]])
        total = loss(HeadOutput(*parts), *target).total.item()
        assert total == pytest.approx(expected["total_per_sample_weighted_sum"], rel=2e-5)
        for name, part in zip(("main", "aux"), parts, strict=True):
            for term, value in zip(("box", "cls", "dfl"), loss.branch_terms(part, *target), strict=True):
                assert value.item() == pytest.approx(expected[f"{name}_{term}"], rel=2e-5)
