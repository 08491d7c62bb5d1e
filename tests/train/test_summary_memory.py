"""The estimate of the memory that a training will take."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from yolo.core.losses import DetectionLoss
from yolo.core.models import build_model
from yolo.training.estimate import estimate_memory

SIZE, BATCH = 160, 3


def bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


def peak_of_a_step(network, optimizer: torch.optim.Optimizer, precision, tmp_path: Path) -> int:
    """Bytes allocated at the highest point of a step, as PyTorch's profiler saw them come and go."""
    loss = DetectionLoss()

    def step() -> None:
        images = torch.randint(0, 255, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8)
        boxes = torch.tensor([[20.0, 20.0, 90.0, 90.0], [50.0, 60.0, 150.0, 150.0]]).repeat(BATCH, 1)
        labels, owner = torch.zeros(2 * BATCH, dtype=torch.int64), torch.arange(BATCH).repeat_interleave(2)
        with precision():
            total = loss(network(images.float() / 255), boxes, labels, owner).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    step()  # now there are gradients and momenta
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    events = [e for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"] if e["name"] == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return most


@pytest.mark.parametrize(("kind", "precision"), [("sgd", nullcontext), ("adamw", bfloat16)])
def test_the_estimate_is_what_a_step_takes(kind: str, precision, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_model("v9-t", 4, image_size=(SIZE, SIZE)).train()
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    options = {"momentum": 0.9} if kind == "sgd" else {}
    optimizer = kinds[kind](network.parameters(), lr=1e-4, **options)
    found = estimate_memory(
        network, image_size=(SIZE, SIZE), batch_size=BATCH, optimizer=kind, precision=precision
    )  # fmt: skip
    measured = peak_of_a_step(network, optimizer, precision, tmp_path)
    assert found.activations == pytest.approx(measured, rel=0.06)

    parameters = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    state = sum(v.numel() for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v) and v.ndim)
    assert found.weights == pytest.approx(4 * parameters, rel=0.02)
    assert found.average == found.weights
    assert found.gradients == 4 * trained
    assert found.optimizer == 4 * state
    assert found.total == found.weights + found.gradients + found.optimizer + found.average + found.activations


def test_estimating_changes_nothing() -> None:
    network = build_model("v9-t", 4).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random, training = torch.get_rng_state(), [module.training for module in network.modules()]
    estimate_memory(network, image_size=(640, 640), batch_size=16)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.modules()] == training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_layer_that_draws_random_numbers_leaves_the_random_state_alone() -> None:
    network = build_model("v9-t", 4).train()
    network.get_submodule("0").register_forward_hook(lambda module, inputs, output: output + torch.rand(()))
    random = torch.get_rng_state()
    estimate_memory(network, image_size=(320, 320), batch_size=2)
    assert torch.equal(torch.get_rng_state(), random)


def test_memory_goes_with_images_pixels_and_what_is_trained() -> None:
    network = build_model("v9-t", 4).train()

    def estimate(**options):
        return estimate_memory(network, **{"image_size": (320, 320), "batch_size": 4, **options})

    one = estimate()
    assert estimate(batch_size=8).activations == pytest.approx(2 * one.activations, rel=0.01)
    assert estimate(image_size=(640, 320)).activations == pytest.approx(2 * one.activations, rel=0.01)
    assert estimate(precision=bfloat16).activations < 0.8 * one.activations
    assert estimate(optimizer="adamw").optimizer == 2 * one.optimizer
    assert estimate(average=False).average == 0
    assert estimate(processes=2).gradients == 2 * one.gradients
    for _, layer in network.section("backbone"):
        layer.requires_grad_(False)
    frozen = estimate()
    assert frozen.gradients < 0.8 * one.gradients
    assert frozen.activations < 0.8 * one.activations
    assert frozen.weights == one.weights
