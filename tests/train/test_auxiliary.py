"""The auxiliary branch can be left out of a training from the start, or fade out; what is left out is not computed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from yolo.core import load_model
from yolo.core.errors import UsageError
from yolo.core.losses import DetectionLoss, LossConfig
from yolo.core.models import Network, build_model
from yolo.core.outputs import HeadOutput
from yolo.core.weights.bundle import ModelBundle, read_checkpoint
from yolo.training.auxiliary import Auxiliary, plan_auxiliary
from yolo.training.config import ModelConfig
from yolo.training.datamodule import YOLODataModule
from yolo.training.freezing import plan_freezing
from yolo.training.optim import build_optimizer
from yolo.training.replay import Circumstances, Replay
from yolo.training.trainer_cli import make_cli

ShortTraining = Callable[..., list[str]]

NETWORK = """
name: two-branches
backbone:
  - Conv: {args: {out_channels: 8, kernel_size: 3, stride: 2}, source: 0}
  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}}
  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}, tags: B3}
  - AConv: {args: {out_channels: 16}, tags: B4}
detection:
  - MultiheadDetection: {source: [B3, B4], tags: Main}
auxiliary:
  - Conv: {args: {out_channels: 16}, source: B3, tags: A3}
  - MultiheadDetection: {source: [A3, B4], tags: AUX}
"""


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "two-branches.yaml"
    path.write_text(NETWORK)
    return path


def auxiliary(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if int(name.split(".")[0]) >= 5}


def copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


class Watch(Callback):
    """Notes what a training does with the branch."""

    def __init__(self) -> None:
        self.start: dict[str, torch.Tensor] = {}
        self.calls = 0
        self.shares: list[float] = []
        self.computed: list[bool] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.start = copied(pl_module.model.state_dict())
        pl_module.model.layer(6).register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.shares.append(pl_module.compute_loss.aux_weight)
        self.computed.append(self.calls > sum(self.computed))


def fit(args: list[str], ckpt: Path | None = None) -> tuple[Any, Watch]:
    cli, watch = make_cli(args), Watch()
    cli.trainer.callbacks.append(watch)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=None if ckpt is None else str(ckpt))
    return cli, watch


def last(root: Path) -> Path:
    return root / "yolo" / "version_0" / "checkpoints" / "last.ckpt"


class TestTheShare:
    def test_falls_along_a_line_and_stays_at_zero(self) -> None:
        course = Auxiliary(frozenset({"x"}), 0.25, 4)
        assert [course.weight_at(e) for e in (0, 1, 2.5, 4, 9)] == [0.25, 0.1875, 0.09375, 0, 0]
        assert [course.computed_in(e) for e in (0, 3, 4)] == [True, True, False]

    def test_is_constant_where_nothing_is_annealed(self) -> None:
        assert {Auxiliary(frozenset({"x"}), 0.25).weight_at(e) for e in (0, 7, 99.5)} == {0.25}

    @pytest.mark.parametrize("bad", [{"aux_anneal_epochs": -1}, {"aux_loss_weight": -0.1}])
    def test_has_limits(self, bad: dict[str, float]) -> None:
        with pytest.raises(UsageError, match=f"model.{next(iter(bad))}"):
            ModelConfig(**bad)

    def test_belongs_to_the_layers_that_only_the_branch_needs(self) -> None:
        network = build_model("v9-t", 4)
        config = ModelConfig()
        found = plan_auxiliary(network, config, plan_freezing(network, config))
        section = [f"{index}." for index, _ in network.section("auxiliary")]
        trained = {name for name, p in network.named_parameters() if p.requires_grad}
        assert found.parameters == {name for name in trained if name.startswith(tuple(section))}

    @pytest.mark.parametrize("name", ["gelan-t", "v7"])
    def test_of_a_network_without_the_branch_does_nothing(self, name: str) -> None:
        with torch.device("meta"):
            network = build_model(name, 2)
        config = ModelConfig(aux_loss_weight=0.0, aux_anneal_epochs=2)
        found = plan_auxiliary(network, config, plan_freezing(network, config))
        assert found == Auxiliary()
        assert not found.annealed


def test_the_loss_takes_the_present_share() -> None:
    network = build_model("v9-t", 2).train()
    output: HeadOutput = network(torch.rand(1, 3, 64, 64))
    loss = DetectionLoss(LossConfig(aux_loss_weight=0.25))
    target = torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([1]), torch.tensor([0])
    main, aux = (float(loss(HeadOutput(part), *target).total) for part in (output.main, output.aux))
    for share in (0.25, 0.1, 0.0):
        loss.aux_weight = share
        assert float(loss(output, *target).total) == pytest.approx(main + share * aux, rel=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [("matcher_topk", 0), ("cls_loss_type", "mse"), ("box_loss_weight", -1.0), ("cls_vfl_gamma", float("nan"))],
)
def test_settings_of_the_loss_are_checked_under_their_names(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^model\.{key}: "):
        ModelConfig(**{key: value})


def test_a_batch_that_is_run_again_computes_it_as_the_training_did(tiny_data: Path, layers: Path) -> None:
    source = YOLODataModule(root=str(tiny_data), image_size=64, batch_size=4, num_workers=0)
    source.setup("validate")
    batch = next(iter(source.val_dataloader()))
    network = build_model(layers, len(source.class_names))
    bundle = ModelBundle(network.spec.to_dict(), network.state_dict(), source.class_names, (64, 64))
    for share in (0.25, 0.0):
        replay = Replay(batch, bundle, LossConfig(aux_loss_weight=share), Circumstances())
        run = {report.name.split(".")[0] for report in replay.run(torch.device("cpu")).modules}
        assert ("6" in run) is (share > 0)


def test_a_network_can_be_told_to_train_without_it() -> None:
    network = build_model("v9-t", 2).train()
    images = torch.rand(1, 3, 64, 64)
    assert network(images).aux is not None
    network.train_auxiliary = False
    assert network(images).aux is None
    assert network(images, aux=True).aux is not None
    assert network.eval()(images).aux is None


class TestFromTheStart:
    @pytest.fixture(scope="class")
    def run(
        self, short_training: ShortTraining, layers: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> tuple[Any, Watch, Path]:
        root = tmp_path_factory.mktemp("without")
        more = {"model.aux_loss_weight": 0, "model.weight_decay": 0.5, "trainer.precision": "32-true"}
        return *fit(short_training(layers, root, **more)), root

    def test_it_is_never_computed(self, run: tuple[Any, Watch, Path]) -> None:
        assert run[1].calls == 0
        assert run[1].computed == [False, False]

    def test_weights_statistics_and_averages_stay_to_the_last_bit(self, run: tuple[Any, Watch, Path]) -> None:
        cli, watch, _ = run
        for state in (cli.model.model.state_dict(), cli.model.averaged_state()):
            assert all(torch.equal(auxiliary(state)[name], value) for name, value in auxiliary(watch.start).items())
        assert not torch.equal(cli.model.model.state_dict()["0.conv.weight"], watch.start["0.conv.weight"])

    def test_the_optimiser_keeps_nothing_for_it(self, run: tuple[Any, Watch, Path]) -> None:
        cli, _, _ = run
        optimizer = cli.trainer.optimizers[0]
        resting = {id(cli.model.model.get_parameter(name)) for name in cli.model.auxiliary.parameters}
        assert resting
        assert not resting & {id(parameter) for parameter in optimizer.state}
        assert all(cli.model.model.get_parameter(name).grad is None for name in cli.model.auxiliary.parameters)

    def test_the_checkpoint_is_complete_and_predicts(self, run: tuple[Any, Watch, Path]) -> None:
        bundle = read_checkpoint(last(run[2]))
        assert set(bundle.state_dict) == set(run[1].start)
        assert isinstance(load_model(last(run[2])), Network)

    def test_the_run_can_go_on_with_the_branch(
        self, run: tuple[Any, Watch, Path], short_training: ShortTraining, layers: Path, tmp_path: Path
    ) -> None:
        more = {"trainer.max_epochs": 2, "model.aux_loss_weight": 0.25}
        cli, watch = fit(short_training(layers, tmp_path, **more), last(run[2]))
        assert watch.computed == [True, True]
        state = auxiliary(cli.model.model.state_dict())
        assert not any(torch.equal(state[n], v) for n, v in auxiliary(watch.start).items() if n.endswith("conv.weight"))

    def test_and_a_run_with_it_can_go_on_without(
        self, short_training: ShortTraining, layers: Path, tmp_path: Path
    ) -> None:
        fit(short_training(layers, tmp_path / "a"))
        more = {"trainer.max_epochs": 2, "model.aux_loss_weight": 0, "model.weight_decay": 0.5}
        cli, watch = fit(short_training(layers, tmp_path / "b", **more), last(tmp_path / "a"))
        assert watch.computed == [False, False]
        state = auxiliary(cli.model.model.state_dict())
        assert all(torch.equal(state[name], value) for name, value in auxiliary(watch.start).items())


ANNEAL = {"trainer.max_epochs": 3, "model.aux_anneal_epochs": 2, "model.aux_loss_weight": 0.25}


def test_it_fades_and_then_is_not_computed_any_more(
    short_training: ShortTraining, layers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="yolo")
    _, watch = fit(short_training(layers, tmp_path, **ANNEAL))
    assert watch.shares[:4] == [0.25, 0.1875, 0.125, 0.0625]
    assert watch.computed == [True] * 4 + [False] * 2
    assert caplog.text.count("Epoch 3: the auxiliary branch is not computed from here on.") == 1


def test_a_resumed_run_fades_as_if_it_had_never_stopped(
    short_training: ShortTraining, layers: Path, tmp_path: Path
) -> None:
    config = tmp_path / "steps.yaml"
    config.write_text(
        "trainer:\n  callbacks:\n    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n      init_args:\n"
        "        {dirpath: checkpoints, filename: 'at-{step}', monitor: null, every_n_train_steps: 1, save_top_k: -1, "
        "save_last: true}\n"
    )
    whole, watch = fit(["--config", str(config), *short_training(layers, tmp_path / "whole", **ANNEAL)])
    wanted, folder = whole.model.model.state_dict(), last(tmp_path / "whole").parent
    for step in (1, 2, 3, 4, 5):
        cli, resumed = fit(short_training(layers, tmp_path / str(step), **ANNEAL), folder / f"at-step={step}.ckpt")
        assert resumed.computed == watch.computed[step:], step
        assert resumed.shares[: max(0, 4 - step)] == watch.shares[step:4], step
        state = cli.model.model.state_dict()
        assert [name for name, value in wanted.items() if not torch.equal(state[name], value)] == [], step


def test_what_is_frozen_is_released_without_it(short_training: ShortTraining, layers: Path, tmp_path: Path) -> None:
    freeze = {"model.freeze_layers": "[0, auxiliary]", "model.freeze_until_epoch": 2, "model.aux_anneal_epochs": 1}
    cli, watch = fit(short_training(layers, tmp_path, **{"trainer.max_epochs": 3, **freeze}))
    state = cli.model.model.state_dict()
    assert not torch.equal(state["0.conv.weight"], watch.start["0.conv.weight"])
    trained = auxiliary(dict(cli.model.model.named_parameters()))
    assert all(torch.equal(value, watch.start[name]) for name, value in trained.items())
    assert not any(parameter.requires_grad for parameter in trained.values())


def test_something_has_to_be_left_to_train() -> None:
    network = build_model("v9-t", 2)

    def plan(**settings: Any) -> Auxiliary:
        config = ModelConfig(freeze_layers=["backbone", "neck", "head", "detection"], **settings)
        return plan_auxiliary(network, config, plan_freezing(network, config))

    assert plan().parameters
    assert plan(aux_anneal_epochs=3, freeze_until_epoch=3)
    for settings in (
        {"aux_loss_weight": 0.0},
        {"aux_anneal_epochs": 3},
        {"aux_anneal_epochs": 3, "freeze_until_epoch": 4},
    ):
        with pytest.raises(UsageError, match="leave something to train"):
            plan(**settings)


def test_its_parameters_have_places_in_the_optimiser_all_the_time() -> None:
    network = build_model("v9-t", 2)
    config = ModelConfig(aux_loss_weight=0.0)
    before = [len(group["params"]) for group in build_optimizer(network, config).param_groups]
    found = plan_auxiliary(network, config, plan_freezing(network, config))
    assert found.set(network, computed=False)
    assert not found.set(network, computed=False)
    after = build_optimizer(network, config, frozen=found.parameters).param_groups
    assert [len(group["params"]) for group in after] == before


SCRIPT = """
import json, sys
from pathlib import Path
import torch
from lightning.pytorch import Callback
from yolo.training.trainer_cli import make_cli


class Watch(Callback):
    def __init__(self):
        self.apart, self.computed = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        mine = torch.cat([p.detach().flatten() for p in pl_module.model.parameters()])
        both = [torch.empty_like(mine) for _ in range(2)]
        torch.distributed.all_gather(both, mine)
        self.apart.append(float((both[0] - both[1]).abs().max()))
        self.computed.append(pl_module.model.train_auxiliary)


watch = Watch()
cli = make_cli(sys.argv[1:])
cli.trainer.callbacks.append(watch)
cli.trainer.fit(cli.model, datamodule=cli.datamodule)
if cli.trainer.is_global_zero:
    Path("out.json").write_text(json.dumps({'apart': watch.apart, 'computed': watch.computed}))
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize(
    ("more", "computed"),
    [({"model.aux_loss_weight": 0}, [False] * 2), ({"model.aux_anneal_epochs": 1}, [True, False])],
    ids=["left out", "fading"],
)
def test_processes_do_not_wait_for_its_gradients(
    more: dict[str, object], computed: list[bool], short_training: ShortTraining, layers: Path, tmp_path: Path
) -> None:
    """DDP reports parameters that get no gradient as an error, in the step after."""
    (tmp_path / "fit.py").write_text(SCRIPT)
    two = {"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.max_epochs": 2, "model.channels_last": "true"}
    done = subprocess.run(
        [sys.executable, "fit.py", *short_training(layers, tmp_path, **two, **more)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found == {"apart": [0.0, 0.0], "computed": computed}
    assert "Grad strides do not match" not in done.stderr
