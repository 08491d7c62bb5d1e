"""Every network of the zoo: it builds, it learns everywhere, it takes any batch and any fitting size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yolo.core.losses import DetectionLoss
from yolo.core.models import Network, build_model, load_spec, spec, zoo_names
from yolo.core.nn.head import Detection
from yolo.core.nn.registry import blocks
from yolo.core.outputs import BranchOutput
from yolo.core.predictor import Predictor


def total(output_scales: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.stack([(scale.double() ** 2).mean() for scale in output_scales]).sum()


def test_names_go_by_family_from_small_to_large() -> None:
    assert zoo_names() == (
        *(f"v9-{size}" for size in "tsmce"),
        *(f"gelan-{size}" for size in "tsmce"),
        "rd-9c",
        "v7",
    )


@pytest.mark.parametrize("name", zoo_names())
def test_one_step_then_a_prediction(name: str) -> None:
    """An odd batch of non-square images: the loss is finite, no parameter is left without gradient, and it predicts.

    A parameter without gradient would make a process group hang. The loss alone gives no gradient to boxes that are
    not assigned, so that "not zero" is asked of a sum over all outputs.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_model(name, 3, image_size=(96, 64))
    output = network(torch.rand(3, 3, 64, 96))
    check_maps(network, output.main)
    assert (output.aux is not None) == network.has_auxiliary == name.startswith(("v9", "rd"))
    branches = [output.main] if output.aux is None else [output.main, output.aux]

    torch.stack([total(branch.cls + branch.dist) for branch in branches]).sum().backward(retain_graph=True)
    check_gradients(network, everywhere=True)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    optimiser.zero_grad()
    loss = DetectionLoss()(output, BOXES, LABELS, IMAGE)
    assert bool(loss.total.isfinite()) and loss.total > 0 and loss.box > 0
    loss.total.backward()
    check_gradients(network)
    optimiser.step()
    picture = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    (found,) = Predictor(network, image_size=(96, 64), confidence=0, max_detections=7)(picture)
    assert 1 <= len(found) <= 7 and np.isfinite(found.boxes).all() and (found.scores > 0).all()


BOXES = torch.tensor([[4.0, 4.0, 90.0, 60.0], [8.0, 30.0, 30.0, 50.0], [40.0, 2.0, 70.0, 60.0]])
LABELS, IMAGE = torch.tensor([1, 0, 2]), torch.tensor([0, 0, 2])


def check_maps(network: Network, branch: BranchOutput) -> None:
    cells = [(8, 12), (4, 6), (2, 3)]
    assert network.strides == (8, 16, 32)
    if branch.anchors is None:
        assert branch.strides == (8, 16, 32)
        assert [tuple(scale.shape) for scale in branch.cls] == [(3, 3, *size) for size in cells]
        assert [tuple(scale.shape) for scale in branch.dist] == [(3, 64, *size) for size in cells]
    else:
        assert branch.strides == (8, 8, 8, 16, 16, 16, 32, 32, 32)
        assert [tuple(scale.shape) for scale in branch.cls] == [(3, 3, *size) for size in cells for _ in range(3)]
        assert [tuple(scale.shape) for scale in branch.dist] == [(3, 4, *size) for size in cells for _ in range(3)]


def check_gradients(network: Network, *, everywhere: bool = False) -> None:
    for key, parameter in network.named_parameters():
        if key.endswith("anc2vec.weight"):  # constants that published files carry
            assert not parameter.requires_grad and parameter.grad is None
            continue
        assert parameter.requires_grad and parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
        assert not everywhere or bool(parameter.grad.any()), key


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


@pytest.mark.parametrize("name", [name for name in zoo_names() if name != "v7"])
def test_initial_biases_know_the_image_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RetinaNet's prior at the size that is really used: ln(5 / classes / cells)."""
    monkeypatch.setattr(nn.init, "kaiming_uniform_", lambda tensor, **_: tensor)  # the kernels take most of the time
    network = build_model(name, 80)
    known, heads = {8: -11.536642, 16: -10.150348, 32: -8.764053}, 1 + network.has_auxiliary
    assert biases(network) == pytest.approx([known[stride] for stride in network.strides] * heads, abs=1e-5)
    small = build_model(name, 3, image_size=(320, 192))
    cells = [40 * 24, 20 * 12, 10 * 6]
    assert biases(small) == pytest.approx([math.log(5 / 3 / count) for count in cells] * heads, abs=1e-5)


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
