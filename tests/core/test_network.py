"""How a network is evaluated: what runs, what is kept, what leaves."""

from __future__ import annotations

import copy
import io
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from yolo.core.errors import UsageError
from yolo.core.models import Network, build_model, count, layer_table, parse_spec, zoo_names
from yolo.core.nn.rep import RepConv


@pytest.fixture(scope="module")
def tiny() -> Network:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return build_model("v9-t", 2)


def evaluated(network: Network, images: torch.Tensor, **options: Any) -> list[int]:
    seen: list[int] = []
    hooks = [
        network.layer(layer.index).register_forward_hook(lambda *_, index=layer.index: seen.append(index))
        for layer in network.spec
    ]
    with torch.no_grad():
        network(images, **options)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", zoo_names())
def test_inference_runs_no_auxiliary_layer(name: str) -> None:
    network = build_model(name, 2).eval()
    images = torch.rand(1, 3, 32, 32)
    main = [layer.index for layer in network.spec if not layer.auxiliary]
    everything = list(range(len(network.spec)))
    assert evaluated(network, images) == main
    assert evaluated(network, images, aux=True) == everything
    assert main == everything[: len(main)], "the inference keys must be a prefix of all keys"


def test_auxiliary_branch_runs_in_training_by_default(tiny: Network) -> None:
    images = torch.rand(2, 3, 64, 64)
    assert tiny.train()(images).aux is not None
    assert tiny(images, aux=False).aux is None
    assert tiny.eval()(images).aux is None


def test_maps_are_freed_as_soon_as_nobody_reads_them(tiny: Network) -> None:
    """No layer's output is alive when the network is two layers past its last reader."""
    last = {s: layer.index for layer in tiny.spec if not layer.auxiliary for s in layer.sources}
    alive: dict[int, weakref.ref[torch.Tensor]] = {}
    late: list[tuple[int, int]] = []

    def look(index: int, output: Any) -> None:
        late.extend((i, index) for i, ref in alive.items() if last[i] < index - 1 and ref() is not None)
        if isinstance(output, torch.Tensor):
            alive[index] = weakref.ref(output)

    hooks = [
        tiny.layer(layer.index).register_forward_hook(lambda _m, _i, output, index=layer.index: look(index, output))
        for layer in tiny.spec
    ]
    with torch.no_grad():
        tiny.eval()(torch.rand(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    assert len(alive) == 22 and not late


def test_strides_come_from_the_graph_without_a_forward() -> None:
    """A network in training mode must not have its statistics shifted by being built."""
    network = build_model("v9-s", 2)
    assert network.strides == (8, 16, 32) and network.training
    counters = [buffer for name, buffer in network.named_buffers() if name.endswith("num_batches_tracked")]
    assert counters and not any(int(counter) for counter in counters)


def test_two_scales_or_four() -> None:
    def model(scales: int) -> Network:
        convs = [{"Conv": {"args": {"out_channels": 16, "kernel_size": 3, "stride": 2}}} for _ in range(scales + 1)]
        head = {"MultiheadDetection": {"source": list(range(2, scales + 2))}}
        return build_model(parse_spec({"backbone": convs, "detection": [head]}), 3)

    for scales, strides in ((1, (4,)), (2, (4, 8)), (4, (4, 8, 16, 32))):
        network = model(scales)
        output = network(torch.rand(2, 3, 64, 64))
        assert network.strides == output.main.strides == strides and output.aux is None
        assert [64 // cls.shape[2] for cls in output.main.cls] == list(strides)


def test_copies_and_files(tiny: Network) -> None:
    twin = copy.deepcopy(tiny).eval()
    images = torch.rand(1, 3, 64, 64)
    file = io.BytesIO()
    torch.save(tiny.state_dict(), file)
    file.seek(0)
    fresh = build_model(tiny.spec, 2).eval()
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    with torch.no_grad():
        expected = tiny.eval()(images).main
        for network in (twin, fresh):
            assert all(torch.equal(a, b) for a, b in zip(network(images).main.cls, expected.cls, strict=True))


def test_shapes_of_a_table_are_those_of_a_forward(tiny: Network) -> None:
    rows = layer_table(tiny, (96, 64))
    shapes: dict[int, Any] = {}
    hooks = [
        tiny.layer(row.index).register_forward_hook(
            lambda _m, _i, output, index=row.index: shapes.update({index: output})
        )
        for row in rows
    ]
    with torch.no_grad():
        tiny.eval()(torch.rand(1, 3, 64, 96), aux=True)
    for hook in hooks:
        hook.remove()
    for row in rows[:-1]:
        if row.block != "MultiheadDetection":
            assert tuple(shapes[row.index].shape[1:]) == tuple(row.shapes[0]), row
    head = [(cls.shape[1] + dist.shape[1], *cls.shape[2:]) for cls, dist in zip(*shapes[30], strict=True)]
    assert head == [tuple(shape) for shape in rows[30].shapes]


def test_a_size_that_does_not_fit_is_named() -> None:
    network = build_model("v9-t", 2)
    with pytest.raises(UsageError, match="image size 100x640: v9-t needs multiples of 32 as sides, such as 96x640"):
        layer_table(network, (100, 640))
    with pytest.raises(UsageError, match=r"image size 640x16.* such as 640x32"):
        network(torch.rand(1, 3, 16, 640))


def test_counting_changes_nothing(tiny: Network) -> None:
    before = {key: tensor.clone() for key, tensor in tiny.state_dict().items()}
    size = count(tiny.train(), image_size=(320, 320), aux=True)
    assert size.flops == count(tiny.eval(), image_size=(640, 160), aux=True).flops
    assert all(torch.equal(before[key], tensor) for key, tensor in tiny.state_dict().items())
    assert all(tensor.device.type == "cpu" for tensor in tiny.state_dict().values())


def test_sections_are_found_by_name(tiny: Network) -> None:
    assert [index for index, _ in tiny.section("backbone")] == list(range(9))
    assert [type(module).__name__ for _, module in tiny.section("detection")] == ["MultiheadDetection"]


def test_in_place_sums_do_not_disturb_gradients() -> None:
    """RepConv overwrites one branch's output; its gradient must be that of the plain formula."""
    torch.manual_seed(0)
    block = RepConv(3, 4).double()
    images = torch.rand(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    block(images).square().sum().backward()
    found = [parameter.grad.clone() for parameter in block.parameters() if parameter.grad is not None]
    block.zero_grad()
    twin = nn.functional.silu(block.conv1(images) + block.conv2(images))
    twin.square().sum().backward()
    expected = [parameter.grad for parameter in block.parameters() if parameter.grad is not None]
    assert len(found) == len(expected) == 6
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right)


def test_networks_can_be_sent_to_another_process(tiny: Network) -> None:
    again = pickle.loads(pickle.dumps(tiny))
    assert again.spec == tiny.spec and again.strides == tiny.strides
    assert list(again.state_dict()) == list(tiny.state_dict())
