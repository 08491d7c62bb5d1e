"""Channels last in memory changes what the memory looks like, and neither numbers nor files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from yolo.core import load_model
from yolo.core.models import build_model
from yolo.training import layout
from yolo.training.layout import channels_last, contiguous, like_parameters
from yolo.training.trainer_cli import make_cli

ShortTraining = Callable[..., list[str]]


@pytest.fixture(scope="module")
def short_training(short_training: ShortTraining) -> ShortTraining:
    return partial(short_training, **{"trainer.limit_val_batches": 1})


class Watch(Callback):
    """Notes losses, and the layout that the first convolution meets."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.images: list[bool] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        def look(layer: Any, given: Any) -> None:
            if layer.training:  # in validation a convolution takes the layout of its kernel
                self.images.append(is_last(given[0]))

        pl_module.model.layer(0).register_forward_pre_hook(look)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        self.losses.append(float(loss.detach()))


def is_last(value: Tensor) -> bool:
    return value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()


def fit(args: list[str], ckpt: Path | None = None) -> tuple[Any, Watch]:
    cli, watch = make_cli(args), Watch()
    cli.trainer.callbacks.append(watch)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=None if ckpt is None else str(ckpt))
    return cli, watch


def last(root: Path) -> Path:
    return root / "yolo" / "version_0" / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def runs(
    short_training: ShortTraining, small_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Any, Watch, Path]]:
    """Two epochs in either layout."""
    found = {}
    for setting in ("true", "false"):
        root = tmp_path_factory.mktemp(setting)
        more = {"model.channels_last": setting, "trainer.max_epochs": 2}
        found[setting] = *fit(short_training(small_network, root, **more)), root
    return found


def test_only_kernels_of_convolutions_are_turned() -> None:
    network = build_model("v9-t", 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ids = {name: id(parameter) for name, parameter in network.named_parameters()}
    channels_last(network)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])
        assert id(parameter) == ids[name]
        wanted = torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
        assert parameter.is_contiguous(memory_format=wanted), name
    assert list(network.state_dict()) == list(before)


def test_images_and_everything_that_is_trained_have_the_layout(runs: dict[str, Any]) -> None:
    for setting, wanted in (("true", True), ("false", False)):
        cli, watch, _ = runs[setting]
        weight = cli.model.model.get_parameter("1.conv.weight")
        momentum = cli.trainer.optimizers[0].state[weight]["momentum_buffer"]
        average = cli.model.averaged_state()["1.conv.weight"]
        assert [is_last(value) for value in (weight, momentum, average)] == [wanted] * 3, setting
        assert set(watch.images) == {wanted}


def test_losses_and_weights_agree_but_for_rounding(runs: dict[str, Any]) -> None:
    (cli, watch, _), (other_cli, other, _) = runs["true"], runs["false"]
    assert len(watch.losses) == 4
    assert watch.losses == pytest.approx(other.losses, rel=1e-4)
    for name, value in other_cli.model.model.state_dict().items():
        torch.testing.assert_close(cli.model.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def test_a_file_says_nothing_of_the_layout(runs: dict[str, Any]) -> None:
    stored, other = (torch.load(last(runs[setting][2]), weights_only=True) for setting in ("true", "false"))
    assert len(tensors(stored["optimizer_states"])) > 10
    assert [v.shape for v in tensors(stored)] == [v.shape for v in tensors(other)]
    assert all(value.is_contiguous() for value in tensors(stored))
    cli = runs["true"][0]
    assert is_last(cli.model.model.get_parameter("1.conv.weight")), "the training goes on as it was"
    assert all(torch.equal(stored["state_dict"][f"model.{n}"], v) for n, v in cli.model.model.state_dict().items())


def test_a_file_predicts_as_the_network_does(runs: dict[str, Any]) -> None:
    cli, _, root = runs["true"]
    network = load_model(last(root))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        cli.model.model.load_state_dict(cli.model.averaged_state())
        wanted = cli.model.model.eval()(images).main
        torch.testing.assert_close(network(images).main.cls[0], wanted.cls[0], rtol=1e-4, atol=1e-5)
    assert all(parameter.is_contiguous() for parameter in network.parameters())


def test_a_run_goes_on_in_either_layout(
    runs: dict[str, Any], short_training: ShortTraining, small_network: Path, tmp_path: Path
) -> None:
    for start, resumed in (("true", "true"), ("true", "false"), ("false", "true")):
        root = tmp_path / f"{start}-{resumed}"
        first = {"model.channels_last": start, "model.lr_extend": "stretch", "model.lr_scheduler": "step"}
        fit(short_training(small_network, root / "a", **first))
        more = {**first, "model.channels_last": resumed, "trainer.max_epochs": 2}
        cli, watch = fit(short_training(small_network, root / "b", **more), last(root / "a"))
        whole, wanted = fit(short_training(small_network, root / "c", **{**more, "model.channels_last": start}))
        assert set(watch.images) == {resumed == "true"}
        state = cli.trainer.optimizers[0].state
        assert all(v["momentum_buffer"].stride() == p.stride() for p, v in state.items())
        average = cli.model.averaged_state()["1.conv.weight"]
        assert is_last(average) is (resumed == "true")
        if start == resumed:
            assert watch.losses == wanted.losses[2:]
            for name, value in whole.model.model.state_dict().items():
                assert torch.equal(cli.model.model.state_dict()[name], value), name
        else:
            assert watch.losses == pytest.approx(wanted.losses[2:], rel=1e-3)


def test_without_averages_weights_are_stored_once(
    short_training: ShortTraining, small_network: Path, tmp_path: Path
) -> None:
    sizes = []
    for setting in ("true", "false"):
        more = {"model.channels_last": setting, "ema.enabled": "false"}
        fit(short_training(small_network, tmp_path / setting, **more))
        stored = torch.load(last(tmp_path / setting), weights_only=True)
        bundle, plain = stored["yolo"]["state_dict"]["1.conv.weight"], stored["state_dict"]["model.1.conv.weight"]
        assert bundle.untyped_storage().data_ptr() == plain.untyped_storage().data_ptr()
        sizes.append(last(tmp_path / setting).stat().st_size)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_frozen_layers_are_turned_as_well(short_training: ShortTraining, small_network: Path, tmp_path: Path) -> None:
    more = {"model.channels_last": "true", "model.freeze_layers": "[0, 1]", "model.freeze_until_epoch": 1}
    cli, watch = fit(short_training(small_network, tmp_path, **more, **{"trainer.max_epochs": 2}))
    assert is_last(cli.model.model.get_parameter("1.conv.weight"))
    assert len(watch.losses) == 4


@pytest.mark.parametrize(
    ("faster", "given", "wanted"), [(True, None, True), (False, None, False), (True, "false", False)]
)
def test_by_default_the_device_decides(
    faster: bool, given: str | None, wanted: bool, short_training: ShortTraining, small_network: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("yolo.training.module.is_faster", lambda device: faster)
    more = {} if given is None else {"model.channels_last": given}
    cli, _ = fit(short_training(small_network, tmp_path, **more, **{"trainer.max_steps": 1}))
    assert cli.model.channels_last is wanted


def test_the_cpu_is_faster_with_it() -> None:
    assert layout.is_faster(torch.device("cpu"))


def test_a_checkpoint_is_rewritten_without_touching_the_training() -> None:
    turned = torch.rand(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    content: dict[str, Any] = {"a": {"b": [turned, (turned, 1)]}, "c": turned, "d": torch.ones(2), "e": "text"}
    inner = content["a"]
    contiguous(content)
    assert all(value.is_contiguous() and torch.equal(value, turned) for value in tensors([content["a"], content["c"]]))
    assert content["a"]["b"][0] is content["a"]["b"][1][0] is content["c"]
    assert inner["b"][0] is turned
    assert is_last(turned)


def test_momenta_take_the_layout_of_their_parameters() -> None:
    parameter = torch.nn.Parameter(torch.rand(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.rand(4, 3, 2, 2)
    optimizer.step()
    state = optimizer.state[parameter]
    state["exp_avg"] = state["exp_avg"].contiguous()
    value = state["exp_avg"].clone()
    like_parameters(optimizer)
    assert is_last(state["exp_avg"])
    assert torch.equal(state["exp_avg"], value)
    assert float(state["step"]) == 1
