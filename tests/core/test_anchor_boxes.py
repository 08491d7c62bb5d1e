"""Heads with anchor boxes, and the other blocks that YOLOv7 and YOLO-RD add."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from yolo.core.decode import decode, flatten
from yolo.core.errors import UsageError
from yolo.core.models import Network, build_model, layer_table, load_spec, parse_spec
from yolo.core.models.spec import parse_text
from yolo.core.nn.anchor_head import AnchorDetection, joint_logits, without_implicit
from yolo.core.nn.retriever import DConv
from yolo.core.nn.spp import SPPCSPConv
from yolo.core.outputs import BranchOutput

SMALL = """\
name: small
anchor: {strides: [4, 8], anchor: [[10, 12, 20, 24], [40, 50, 60.5, 30, 90, 90]]}
backbone:
  - Conv: {args: {out_channels: 8, kernel_size: 3, stride: 2}, source: 0}
  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}, tags: B2}
  - Conv: {args: {out_channels: 24, kernel_size: 3, stride: 2}}
  - SPPCSPConv: {args: {out_channels: 16}, tags: B3}
detection:
  - MultiheadDetection: {args: {version: v7}, source: [B2, B3], tags: Main}
"""


def small(classes: int = 3) -> Network:
    torch.manual_seed(0)
    return build_model(parse_text(SMALL, "small.yaml"), classes, image_size=(96, 64))


def test_joint_logits_are_the_product_of_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    o, c = (torch.randn(2, n, 3, 4, generator=generator, dtype=torch.float64) * 6 for n in (1, 5))
    torch.testing.assert_close(joint_logits(o, c).sigmoid(), o.sigmoid() * c.sigmoid(), rtol=1e-12, atol=0)
    assert joint_logits(o.half(), c.half()).dtype == torch.float16
    inputs = o[:1, :, :1, :2].clone().requires_grad_(), c[:1, :2, :1, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(joint_logits, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_joint_logits_of_extreme_values_are_finite(dtype: torch.dtype) -> None:
    values = torch.tensor([-2e4, -100.0, -1.0, 0.0, 1.0, 100.0, 2e4])
    o = values.view(7, 1, 1, 1).expand(7, 1, 1, 7).to(dtype).requires_grad_()
    c = values.view(1, 1, 1, 7).expand(7, 1, 1, 7).to(dtype).requires_grad_()
    joint = joint_logits(o, c)
    joint.float().sum().backward()
    assert joint.isfinite().all() and o.grad is not None and c.grad is not None
    assert o.grad.isfinite().all() and c.grad.isfinite().all()
    exact = o.detach().double().sigmoid() * c.detach().double().sigmoid()
    torch.testing.assert_close(joint.detach().double().sigmoid(), exact, rtol=0, atol=3e-3)


def test_every_prediction_by_hand() -> None:
    """From the raw maps with the formulas as they are written down, number by number."""
    network = small().double().eval()
    head = network.layer(4)
    raw: list[torch.Tensor] = []
    for part in head.heads:
        part.register_forward_hook(lambda _m, _i, output: raw.append(output))
    with torch.no_grad():
        output = network(torch.rand(2, 3, 64, 96, dtype=torch.float64)).main
    found = decode(output)
    assert output.strides == (4, 4, 8, 8, 8)
    assert output.anchors == ((10, 12), (20, 24), (40, 50), (60.5, 30), (90, 90))
    assert flatten(output).dist.shape == (2, 2 * 16 * 24 + 3 * 8 * 12, 4, 1)
    place = 0
    boxes = iter(output.anchors)
    for maps, stride, count in zip(raw, (4, 8), (2, 3), strict=True):
        assert maps.shape[1] == count * 8
        for part in maps.view(2, count, 8, *maps.shape[2:]).unbind(1):
            width, height = next(boxes)
            for y in range(maps.shape[2]):
                for x in range(maps.shape[3]):
                    s = part[1, :, y, x].sigmoid().tolist()
                    cx, cy = (2 * s[0] - 0.5 + x) * stride, (2 * s[1] - 0.5 + y) * stride
                    w, h = (2 * s[2]) ** 2 * width, (2 * s[3]) ** 2 * height
                    expected = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
                    assert found.boxes[1, place].tolist() == pytest.approx(expected, abs=1e-9)
                    assert found.scores[1, place].tolist() == pytest.approx([s[4] * p for p in s[5:]], rel=1e-9)
                    place += 1
    assert place == found.boxes.shape[1]


@pytest.mark.parametrize("name", ["v7", None])
def test_initial_biases(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anchor boxes, 5 objects per image over cells and anchors, and every class alike."""
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda tensor, **_: tensor.zero_())
    network = build_model(name, 80) if name else small()
    cells = [80 * 80, 40 * 40, 20 * 20] if name else [16 * 24, 8 * 12]
    heads = [module for module in network.modules() if isinstance(module, AnchorDetection)]
    for head, count in zip(heads, cells, strict=True):
        bias = head.head_conv.bias
        assert bias is not None
        for row in bias.detach().view(head.num_anchors, -1):
            assert row[:4].tolist() == [0] * 4
            assert float(row[4]) == pytest.approx(math.log(5 / count / head.num_anchors), abs=1e-5)
            assert row[5:].tolist() == pytest.approx([-math.log(network.num_classes)] * network.num_classes, abs=1e-6)
    implicit = torch.cat([p.detach().flatten() for n, p in network.named_parameters() if "implicit_m" in n])
    assert abs(float(implicit.mean()) - 1) < 0.02 and 0.005 < float(implicit.std()) < 0.04
    implicit = torch.cat([p.detach().flatten() for n, p in network.named_parameters() if "implicit_a" in n])
    assert abs(float(implicit.mean())) < 0.02 and 0.005 < float(implicit.std()) < 0.04


def test_one_class() -> None:
    with torch.no_grad():
        output = small(1).eval()(torch.rand(1, 3, 64, 96)).main
    assert output.cls[0].shape == (1, 1, 16, 24) and bool(output.cls[0].isfinite().all())


def test_implicit_vectors_go_into_the_convolution() -> None:
    torch.manual_seed(0)
    head = AnchorDetection(6, num_anchors=2, num_classes=3).double()
    for name, parameter in head.named_parameters():
        if name.endswith("implicit"):
            torch.nn.init.normal_(parameter, 0.5, 0.5)
    images = torch.rand(2, 6, 4, 5, dtype=torch.float64)
    before = {key: tensor.clone() for key, tensor in head.state_dict().items()}
    plain = without_implicit(head)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), head(images), rtol=0, atol=1e-12)
        torch.testing.assert_close(without_implicit(plain)(images), head(images), rtol=0, atol=1e-12)
    assert list(plain.state_dict()) == ["head_conv.weight", "head_conv.bias"]
    assert all(torch.equal(before[key], tensor) for key, tensor in head.state_dict().items())


def test_poolings_read_the_same_map() -> None:
    torch.manual_seed(0)
    block = SPPCSPConv(3, 4).double().eval()
    images = torch.rand(2, 3, 15, 17, dtype=torch.float64)
    narrow = block.pre_conv(images)
    pools = [F.max_pool2d(narrow, k, 1, k // 2) for k in (5, 9, 13)]
    joined = torch.cat((block.post_conv(torch.cat((narrow, *pools), 1)), block.short_conv(images)), 1)
    torch.testing.assert_close(block(images), block.merge_conv(joined), rtol=0, atol=0)


def test_dictionary_standardises_each_position() -> None:
    torch.manual_seed(0)
    block = DConv(4, 6).double().eval()
    images = torch.rand(2, 4, 5, 7, dtype=torch.float64)
    seen: list[torch.Tensor] = []
    block.D.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    output = block(images)
    coefficients = block.GIE(block.CG(images))
    mean = coefficients.mean(1, keepdim=True)
    deviation = ((coefficients - mean).square().sum(1, keepdim=True) / 5).sqrt()
    torch.testing.assert_close(seen[0], (coefficients - mean) / (deviation + 1e-5))
    torch.testing.assert_close(output, 0.8 * block.D(seen[0]) + 0.2 * images)


def test_anchor_boxes_travel_with_the_architecture() -> None:
    spec = parse_text(SMALL, "small.yaml")
    assert spec.anchors == (((10, 12), (20, 24)), ((40, 50), (60.5, 30), (90, 90)))
    assert parse_spec(spec.to_dict(), "checkpoint") == spec
    assert layer_table(spec, (96, 64), num_classes=3)[-1].shapes == ((16, 16, 24), (24, 8, 12))
    assert load_spec("v7").anchors == (
        ((12, 16), (19, 36), (40, 28)),
        ((36, 75), (76, 55), (72, 146)),
        ((142, 110), (192, 243), (459, 401)),
    )


MISTAKES = {
    "no anchor boxes": (", anchor: [[10, 12, 20, 24], [40, 50, 60.5, 30, 90, 90]]", "", ["layer 4", "2 scales"]),
    "of another number of scales": (", [40, 50, 60.5, 30, 90, 90]", "", ["layer 4", "of 2 scales", "those of 1"]),
    "half a box": (
        "[10, 12, 20, 24]",
        "[10, 12, 20]",
        ["small.yaml: anchor: anchor", "[width, height", "[10, 12, 20]"],
    ),
    "a side of zero": ("[10, 12, 20, 24]", "[10, 0]", ["small.yaml: anchor: anchor", "[10, 0]"]),
    "no list": ("[[10, 12, 20, 24], [40, 50, 60.5, 30, 90, 90]]", "12", ["anchor: anchor", "per scale", "12"]),
    "of a head without": ("{version: v7}", "{version: v9}", ["layer 4", "anchor.anchor", "version: v7"]),
    "unknown version": ("{version: v7}", "{version: v8}", ["layer 4", "'version'", "v9, v7", "'v8'"]),
    "as an argument": ("{version: v7}", "{version: v7, anchors: [[1, 2]]}", ["layer 4", "'anchors' follows"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_file_and_layer(mistake: str, tmp_path: Path) -> None:
    old, new, expected = MISTAKES[mistake]
    assert old in SMALL
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        build_model(path, 3)
    message = str(caught.value)
    assert "\n" not in message and "small.yaml" in message
    assert all(part in message for part in expected), message


def test_a_dictionary_of_one_atom_is_refused() -> None:
    layer = {"RepNCSPELAND": {"args": {"out_channels": 8, "part_channels": 8, "atoms": 1}}}
    with pytest.raises(UsageError, match=r"layer 0 \(RepNCSPELAND\): atoms: must be at least 2"):
        build_model(parse_spec({"backbone": [layer], "detection": [{"MultiheadDetection": {"source": [-1]}}]}), 3)


def test_decoding_exports_without_baked_batch() -> None:
    class Decoder(torch.nn.Module):
        def forward(self, cls: torch.Tensor, dist: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = decode(BranchOutput((cls,), (dist,), (8,), ((10, 20),)))
            return found.boxes, found.scores

    batch = torch.export.Dim("batch", min=1, max=64)
    inputs = torch.randn(2, 3, 4, 5), torch.randn(2, 4, 4, 5)
    program = torch.export.export(Decoder(), inputs, dynamic_shapes=({0: batch}, {0: batch}))
    other = torch.randn(7, 3, 4, 5), torch.randn(7, 4, 4, 5)
    torch.testing.assert_close(program.module()(*other), Decoder()(*other))


def test_an_auxiliary_head_may_be_of_the_other_kind() -> None:
    text = SMALL + "auxiliary:\n  - MultiheadDetection: {source: [B2, B3], tags: AUX}\n"
    output = build_model(parse_text(text, "both.yaml"), 3)(torch.rand(2, 3, 64, 96))
    assert output.aux is not None and output.aux.anchors is None
    assert output.aux.strides == (4, 8) and output.main.strides == (4, 4, 8, 8, 8)
    assert output.aux.dist[0].shape == (2, 64, 16, 24)
