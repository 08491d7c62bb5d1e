"""Raw predictions to boxes and probabilities."""

from __future__ import annotations

import numpy as np
import torch

from yolo.core.decode import decode, decode_boxes, expected_distances, flatten
from yolo.core.outputs import BranchOutput


def branch(dtype: torch.dtype = torch.float32) -> BranchOutput:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 6), (2, 3))
    cls = tuple(torch.randn(2, 5, *shape, generator=generator).to(dtype) for shape in shapes)
    dist = tuple(torch.randn(2, 64, *shape, generator=generator).to(dtype) for shape in shapes)
    return BranchOutput(cls, dist, (8, 16))


def test_every_anchor_by_hand():
    output = branch()
    decoded = decode(output)
    assert decoded.boxes.shape == (2, 30, 4)
    assert decoded.scores.shape == (2, 30, 5)
    anchor = 0
    for cls, dist, stride in zip(output.cls, output.dist, output.strides, strict=True):
        for y in range(cls.shape[2]):
            for x in range(cls.shape[3]):
                bins = np.exp(dist[1, :, y, x].double().numpy()).reshape(4, 16)
                left, top, right, bottom = (bins * np.arange(16)).sum(1) / bins.sum(1) * stride
                cx, cy = (x + 0.5) * stride, (y + 0.5) * stride
                expected = [cx - left, cy - top, cx + right, cy + bottom]
                np.testing.assert_allclose(decoded.boxes[1, anchor], expected, rtol=1e-5, atol=1e-4)
                logits = cls[1, :, y, x].double().numpy()
                np.testing.assert_allclose(decoded.scores[1, anchor], 1 / (1 + np.exp(-logits)), rtol=1e-5)
                anchor += 1


def test_flatten_has_the_same_order():
    output = branch()
    flat = flatten(output)
    assert flat.dist.shape == (2, 30, 4, 16)
    assert torch.equal(flat.cls.sigmoid(), decode(output).scores)
    boxes = decode_boxes(output)
    sides = expected_distances(flat.dist)
    torch.testing.assert_close((sides[..., 0] + sides[..., 2])[:, :24] * 8, (boxes[:, 2] - boxes[:, 0])[:, :24])


def test_float32_for_half_precision_and_other_numbers_of_bins():
    assert decode(branch(torch.bfloat16)).boxes.dtype == torch.float32
    assert decode(branch(torch.bfloat16)).scores.dtype == torch.float32
    assert decode(branch(torch.float64)).boxes.dtype == torch.float64
    single = BranchOutput((torch.zeros(1, 1, 1, 1),), (torch.zeros(1, 32, 1, 1),), (10,))
    np.testing.assert_allclose(decode(single).boxes[0, 0], [5 - 35, 5 - 35, 5 + 35, 5 + 35])


def test_channels_last_gives_the_same():
    output = branch()
    turned = BranchOutput(
        tuple(m.to(memory_format=torch.channels_last) for m in output.cls),
        tuple(m.to(memory_format=torch.channels_last) for m in output.dist),
        output.strides,
    )
    torch.testing.assert_close(decode(turned).boxes, decode(output).boxes)
    torch.testing.assert_close(decode(turned).scores, decode(output).scores)


def test_exports_without_baked_batch():
    class Decoder(torch.nn.Module):
        def forward(self, cls: torch.Tensor, dist: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            decoded = decode(BranchOutput((cls,), (dist,), (8,)))
            return decoded.boxes, decoded.scores

    batch = torch.export.Dim("batch", min=1, max=64)
    inputs = torch.randn(2, 3, 4, 5), torch.randn(2, 64, 4, 5)
    program = torch.export.export(Decoder(), inputs, dynamic_shapes=({0: batch}, {0: batch}))
    other = torch.randn(7, 3, 4, 5), torch.randn(7, 64, 4, 5)
    torch.testing.assert_close(program.module()(*other), Decoder()(*other))
