"""Every network of the zoo: it builds, it learns everywhere, it takes any batch and any fitting size."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from yolo.core.models import Network, build_model, load_spec, spec, zoo_names
from yolo.core.nn.head import Detection
from yolo.core.nn.registry import blocks


def total(output_scales: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.stack([(scale.double() ** 2).mean() for scale in output_scales]).sum()


def test_names_go_from_small_to_large() -> None:
    assert zoo_names() == ("v9-t", "v9-s", "v9-m", "v9-c", "v9-e")


@pytest.mark.parametrize("name", zoo_names())
def test_gradients_reach_every_trainable_parameter(name: str) -> None:
    """An odd batch of non-square images, one step: nothing is left without gradient (a process group would hang)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_model(name, 3, image_size=(96, 64))
    images = torch.rand(3, 3, 64, 96)
    output = network(images)
    assert output.aux is not None
    (total(output.main.cls + output.main.dist) + total(output.aux.cls + output.aux.dist)).backward()
    for key, parameter in network.named_parameters():
        if key.endswith("anc2vec.weight"):  # constants that published files carry
            assert not parameter.requires_grad and parameter.grad is None
            continue
        assert parameter.requires_grad and parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
        assert bool(parameter.grad.any()), key
    for branch in (output.main, output.aux):
        assert [tuple(scale.shape) for scale in branch.cls] == [(3, 3, 8, 12), (3, 3, 4, 6), (3, 3, 2, 3)]
        assert [tuple(scale.shape) for scale in branch.dist] == [(3, 64, 8, 12), (3, 64, 4, 6), (3, 64, 2, 3)]
        assert branch.strides == network.strides == (8, 16, 32)


@pytest.mark.parametrize("name", ["v9-t", "v9-m"])
def test_double_precision_and_single_images(name: str) -> None:
    torch.set_num_threads(1)
    network = build_model(name, 1, image_size=(32, 64)).double().eval()
    with torch.no_grad():
        output = network(torch.rand(1, 3, 64, 32, dtype=torch.float64), aux=True)
        single = network.float()(torch.rand(1, 3, 64, 32))
    assert output.main.cls[0].dtype == torch.float64 and output.main.cls[2].shape == (1, 1, 2, 1)
    assert output.aux is not None and single.aux is None


def test_images_of_a_batch_do_not_meet_in_evaluation() -> None:
    torch.manual_seed(0)
    network = build_model("v9-t", 4).double().eval()
    images = torch.rand(3, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        together, alone = network(images), network(images[1:2])
    for left, right in zip(together.main.cls, alone.main.cls, strict=True):
        torch.testing.assert_close(left[1:2], right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", zoo_names())
def test_initial_biases_know_the_image_size(name: str) -> None:
    """RetinaNet's prior at the size that is really used: ln(5 / classes / cells)."""
    network = build_model(name, 80)
    known = {8: -11.536642, 16: -10.150348, 32: -8.764053}
    assert biases(network) == pytest.approx([known[stride] for stride in network.strides] * 2, abs=1e-5)
    small = build_model(name, 3, image_size=(320, 192))
    cells = [40 * 24, 20 * 12, 10 * 6]
    assert biases(small) == pytest.approx([math.log(5 / 3 / count) for count in cells] * 2, abs=1e-5)


def biases(network: Network) -> list[float]:
    found = []
    for head in network.modules():
        if isinstance(head, Detection):
            box, cls = head.anchor_conv[2], head.class_conv[2]
            assert isinstance(box, nn.Conv2d) and isinstance(cls, nn.Conv2d)
            assert box.bias is not None and cls.bias is not None
            assert bool((box.bias == 1).all()) and len(set(cls.bias.tolist())) == 1
            found.append(float(cls.bias[0].detach()))
    return found


def test_class_width_is_data() -> None:
    def width(network: Network) -> int:
        return int(network.get_parameter("22.heads.0.class_conv.0.conv.weight").shape[0])

    assert width(build_model("v9-t", 80)) == 80
    assert width(build_model("v9-t", 3)) == 64
    adopted = build_model("v9-t", 3, class_width=80)
    assert width(adopted) == 80
    assert width(build_model(adopted.spec, 3)) == 80, "the adopted width travels with the architecture"
    assert width(build_model("v9-t", 80, class_width={"per_class": 2, "at_most": 128})) == 128


def test_every_zoo_layer_is_a_registered_block_and_every_block_says_what_it_is() -> None:
    known = blocks()
    assert {layer.block for name in zoo_names() for layer in load_spec(name)} <= set(known)
    assert all((entry.factory.__doc__ or "").strip() for entry in known.values())


def test_zoo_files_hold_one_layer_a_line() -> None:
    folder = Path(spec.__file__).parent / "zoo"
    for file in folder.glob("*.yaml"):
        layers = [line for line in file.read_text().splitlines() if line.startswith("  - ")]
        assert len(layers) == len(load_spec(file.stem))
