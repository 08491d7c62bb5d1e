"""Fusion for inference changes the modules, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from yolo.core.models import Network, build_model, zoo_names
from yolo.core.models.fuse import fuse
from yolo.core.nn.conv import Conv, folded
from yolo.core.nn.rep import RepConv, merged


def lively(network: Network) -> Network:
    """Normalisations that do something: random scales, shifts and statistics (fusing fresh ones would prove little)."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.weight, 1, 0.2, generator=generator)
            nn.init.normal_(module.bias, 0.5, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.1, 1.5, generator=generator)
    return network


@pytest.mark.parametrize("name", zoo_names())
def test_outputs_do_not_change(name: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = lively(build_model(name, 5)).double().eval()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    fused = fuse(network)
    with torch.no_grad():
        expected, found = network(images), fused(images)
    for left, right in zip(expected.main.cls + expected.main.dist, found.main.cls + found.main.dist, strict=True):
        assert float(left.std()) > 1e-3
        torch.testing.assert_close(left, right, rtol=0, atol=1e-8)
    assert found.aux is None and found.main.strides == expected.main.strides

    assert not any(isinstance(module, (nn.BatchNorm2d, RepConv)) for module in fused.modules())
    assert not fused.has_auxiliary and not fused.spec.section("auxiliary") and not fused.training
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), "the network itself must stay as it was"
    own = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in fused.state_dict().values() if tensor.numel())


def test_single_precision_stays_close() -> None:
    torch.manual_seed(0)
    network = lively(build_model("v9-t", 5)).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = network(images), fuse(network)(images)
    for left, right in zip(expected.main.dist, found.main.dist, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_fusing_twice_is_fusing_once() -> None:
    network = fuse(build_model("v9-t", 2).eval())
    again = fuse(network)
    assert all(torch.equal(left, right) for left, right in zip(network.parameters(), again.parameters(), strict=True))


def test_training_mode_of_the_source_does_not_matter() -> None:
    torch.manual_seed(0)
    network = lively(build_model("v9-t", 2))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found = fuse(network.train())(images)
        expected = network.eval()(images)
    torch.testing.assert_close(found.main.cls[0], expected.main.cls[0], rtol=1e-4, atol=1e-4)


def test_a_fused_network_trains_no_auxiliary_branch() -> None:
    fused = fuse(build_model("v9-t", 2)).train()
    assert fused(torch.rand(1, 3, 64, 64), aux=True).aux is None


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, (3, 1)])
def test_any_convolution_folds(kernel: int | tuple[int, int], groups: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 4, 9, 7, dtype=torch.float64)
    block = nn.Sequential(Conv(4, 6, kernel, 2, groups=groups), RepConv(6, 6, kernel, groups=groups)).double()
    block(images)  # moves the statistics
    block.eval()
    conv, rep = block
    assert isinstance(conv, Conv) and isinstance(rep, RepConv)
    with torch.no_grad():
        hidden = conv.act(folded(conv)(images))
        torch.testing.assert_close(rep.act(merged(rep)(hidden)), block(images), rtol=0, atol=1e-12)
