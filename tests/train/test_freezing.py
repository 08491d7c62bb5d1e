"""What is frozen does not move, for as long as it should, and then trains as if it had always been there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from yolo.core.errors import UsageError
from yolo.core.models import Network, build_model
from yolo.training.config import ModelConfig
from yolo.training.freezing import plan_freezing
from yolo.training.optim import build_optimizer
from yolo.training.trainer_cli import make_cli


@pytest.fixture(scope="module")
def network() -> Network:
    return build_model("v9-t", 4)


def frozen(network: Network, *patterns: int | str, **more: object) -> frozenset[str]:
    return plan_freezing(network, ModelConfig(freeze_layers=list(patterns), **more)).parameters


def layers(names: frozenset[str]) -> set[int]:
    return {int(name.split(".")[0]) for name in names}


def test_nothing_is_frozen_by_itself(network: Network) -> None:
    assert not plan_freezing(network, ModelConfig())


def test_the_backbone_is_the_section_and_nothing_else(network: Network) -> None:
    names = frozen(network, freeze_backbone=True)
    wanted = {name for index, module in network.section("backbone") for name in _names(index, module)}
    assert names == wanted
    assert layers(names) == set(range(9))
    assert not any(name.startswith("22.") for name in names)


def _names(index: int, module: torch.nn.Module) -> list[str]:
    return [f"{index}.{name}" for name, _ in module.named_parameters()]


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        (["0-4"], {0, 1, 2, 3, 4}),
        ([3], {3}),
        (["3", "5 - 6"], {3, 5, 6}),
        (["B3"], {4}),
        (["neck", "Main"], {9, 12, 22}),
        (["9-11"], {9}),
        (["22.heads"], {22}),
        (["2.*"], {2}),
    ],
)
def test_layers_by_number_tag_section_and_name(network: Network, patterns: list[int | str], wanted: set[int]) -> None:
    assert layers(frozen(network, *patterns)) == wanted


def test_a_pattern_of_names_freezes_these_alone(network: Network) -> None:
    names = frozen(network, "*.class_conv.*")
    assert names == {name for name, _ in network.named_parameters() if ".class_conv." in name}
    assert frozen(network, "0.conv.weight") == {"0.conv.weight"}


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("backbone_conv1", "Did you mean 'backbone'"),
        ("stem", "It takes sections (backbone, neck, head, detection, auxiliary)"),
        ("class_convs", "Did you mean '*.class_conv.*'"),
        ("b3", "Did you mean 'B3'"),
        ("10", "It takes"),  # an upsampling layer has nothing to freeze
        ("30-99", "layers of v9-t are 0 to 30"),
        ("4-2", "layers of v9-t are 0 to 30"),
    ],
)
def test_what_matches_nothing_is_an_error_with_candidates(network: Network, pattern: str, hint: str) -> None:
    with pytest.raises(UsageError, match=r"model\.freeze_layers") as caught:
        frozen(network, pattern)
    assert hint in str(caught.value)


def test_something_has_to_be_left(network: Network) -> None:
    with pytest.raises(UsageError, match="leave something to train"):
        frozen(network, "*")


def test_parameters_that_the_network_keeps_fixed_are_not_ours_to_release(network: Network) -> None:
    fixed = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    plan = plan_freezing(network, ModelConfig(freeze_layers=["detection"]))
    assert fixed
    assert not fixed & plan.parameters


def test_a_negative_epoch_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.freeze_until_epoch"):
        ModelConfig(freeze_until_epoch=-1)


def test_norms_are_held_where_all_of_them_is_frozen(network: Network) -> None:
    held = plan_freezing(network, ModelConfig(freeze_layers=["0"])).norms
    assert held == ("0.bn",)
    assert plan_freezing(network, ModelConfig(freeze_layers=["0.conv.*"])).norms == ()
    every = {n for n, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    backbone = plan_freezing(network, ModelConfig(freeze_backbone=True)).norms
    assert set(backbone) == {name for name in every if int(name.split(".")[0]) < 9}


def test_the_table_counts_parameters(network: Network) -> None:
    plan = plan_freezing(network, ModelConfig(freeze_backbone=True, freeze_until_epoch=3))
    lines = plan.table(network).splitlines()
    assert "to the end of epoch 3" in lines[0]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    count = sum(p.numel() for _, module in network.section("backbone") for p in module.parameters())
    assert rows["backbone"] == ["0-8", f"{count:,}", f"{count:,}", str(len(plan.norms))]
    assert rows["head"][2] == "0"
    assert rows["all"][2] == f"{count:,}"
    assert int(rows["all"][1].replace(",", "")) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_nothing_frozen_is_decayed_and_a_released_parameter_starts_like_a_new_one(optimizer: str) -> None:
    config = ModelConfig(freeze_layers=["0"], optimizer=optimizer, weight_decay=0.5)
    network = build_model("v9-t", 4)
    plan = plan_freezing(network, config)
    plan.set_gradients(network, frozen=True)
    stepper = build_optimizer(network, config, frozen=plan.parameters)
    before = {name: network.get_parameter(name).detach().clone() for name in plan.parameters}

    def step() -> None:
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        stepper.step()

    step()
    assert all(torch.equal(network.get_parameter(name), value) for name, value in before.items())
    frozen_ids = {id(network.get_parameter(name)) for name in plan.parameters}
    assert not frozen_ids & {id(parameter) for parameter in stepper.state}
    plan.set_gradients(network, frozen=False)
    step()
    assert all(not torch.equal(network.get_parameter(name), value) for name, value in before.items())
    decays = {g["name"]: g["weight_decay"] for g in stepper.param_groups}
    assert decays == {"bias": 0.0, "norm": 0.0, "weight": 0.5}
    weight = network.get_parameter("0.conv.weight")
    group = next(g for g in stepper.param_groups if any(p is weight for p in g["params"]))
    assert group["name"] == "weight"
    if optimizer == "sgd":
        decayed = 1 + 0.5 * before["0.conv.weight"]
        torch.testing.assert_close(stepper.state[weight]["momentum_buffer"], decayed)
    else:
        assert int(stepper.state[weight]["step"]) == 1


def options(data: Path, root: Path, **more: object) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 4, "data.num_workers": 0,
        "data.close_mosaic_epochs": 1, "model.model_config": "v9-t", "model.warmup_epochs": 1, "ema.tau": 3,
        "trainer.max_epochs": 2, "trainer.accelerator": "cpu", "trainer.num_sanity_val_steps": 1,
        "trainer.limit_val_batches": 1,
        "record.images": 0, "trainer.logger.init_args.save_dir": root,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in {**settings, **more}.items()]


def test_the_command_line_takes_lists_numbers_and_ranges(tmp_path: Path) -> None:
    plain = ["--trainer.logger=false", "--trainer.accelerator=cpu"]
    for given, wanted in {
        "[backbone_conv1, stem]": ("backbone_conv1", "stem"),
        "[3, 0-4]": ("3", "0-4"),
        "5": ("5",),
        "0-4": ("0-4",),
        "*.class_conv.*": ("*.class_conv.*",),
        "null": (),
    }.items():
        assert make_cli([*plain, f"--model.freeze_layers={given}"]).model.config.frozen_layers() == wanted, given
    config = tmp_path / "c.yaml"
    config.write_text("model: {freeze_backbone: true, freeze_until_epoch: 10, freeze_layers: [neck, 3]}\n")
    settings = make_cli([*plain, f"--config={config}"]).model.config
    assert (settings.freeze_backbone, settings.freeze_until_epoch) == (True, 10)
    assert settings.frozen_layers() == ("neck", "3")


class Watch(Callback):
    """Notes, at the end of every batch, what moved."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []
        self.eval: list[set[str]] = []

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        network = pl_module.model
        self.states.append({name: value.clone() for name, value in network.state_dict().items()})
        self.eval.append({name for name, module in network.named_modules() if not module.training})


FREEZE = {"model.freeze_backbone": "true", "model.freeze_until_epoch": 1}


def backbone(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if int(name.split(".")[0]) < 9}


def test_a_run_freezes_and_releases(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="yolo")
    cli = make_cli(options(tiny_data, tmp_path, **FREEZE, **{"model.warmup_bias_lr": 0.01}))
    watch = Watch()
    cli.trainer.callbacks.append(watch)
    with pytest.warns() as warned:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    assert not [w for w in warned if "eval mode" in str(w.message)]
    first, second, _, fourth = map(backbone, watch.states)
    assert all(torch.equal(value, first[name]) for name, value in second.items()), "norm statistics included"
    assert not any(value.any() for name, value in first.items() if name.endswith("running_mean"))
    moved = {name for name, value in fourth.items() if not torch.equal(value, second[name])}
    assert moved == set(fourth)
    assert watch.eval[0] == watch.eval[1] == set(cli.model.freezing.norms)
    assert watch.eval[2] == watch.eval[3] == set()
    text = caplog.text
    assert "Frozen to the end of epoch 1" in text
    assert "Epoch 2: the " in text
    stepped = {id(p) for group in cli.trainer.optimizers[0].param_groups for p in group["params"]}
    assert {id(p) for p in cli.model.model.parameters() if p.requires_grad} == stepped


def test_averages_of_frozen_layers_stay_what_they_are(tiny_data: Path, tmp_path: Path) -> None:
    cli = make_cli(options(tiny_data, tmp_path, **{"model.freeze_backbone": "true", "trainer.max_epochs": 1}))
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    average = cli.model.averaged_state()
    raw = cli.model.model.state_dict()
    assert all(torch.equal(average[name], value) for name, value in backbone(raw).items())
    assert any(not torch.equal(average[name], value) for name, value in raw.items())


def test_resumed_before_at_and_after_the_border(tiny_data: Path, tmp_path: Path) -> None:
    """Two steps an epoch, frozen for one of three: stopped in the frozen epoch, at its end, and behind it."""
    config = tmp_path / "steps.yaml"
    config.write_text(
        "trainer:\n  callbacks:\n    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n      init_args:\n"
        "        {dirpath: checkpoints, filename: 'at-{step}', monitor: null, every_n_train_steps: 1, save_top_k: -1, "
        "save_last: true}\n"
        "    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n      init_args:\n"
        "        {dirpath: checkpoints, filename: 'val-{step}', monitor: val/mAP, save_top_k: -1}\n"
    )
    more = {**FREEZE, "trainer.max_epochs": 3, "trainer.num_sanity_val_steps": 0}
    whole = make_cli(["--config", str(config), *options(tiny_data, tmp_path / "whole", **more)])
    whole.trainer.fit(whole.model, datamodule=whole.datamodule)
    wanted, folder = whole.model.model.state_dict(), tmp_path / "whole" / "yolo" / "version_0" / "checkpoints"
    averages = whole.model.averaged_state()
    for name in ("at-step=1", "at-step=2", "val-step=2", "at-step=3", "at-step=4", "val-step=4"):
        cli = make_cli(options(tiny_data, tmp_path / name, **more))
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=str(folder / f"{name}.ckpt"))
        assert cli.trainer.global_step == whole.trainer.global_step == 6
        for got, right in ((cli.model.model.state_dict(), wanted), (cli.model.averaged_state(), averages)):
            assert [key for key, value in right.items() if not torch.equal(got[key], value)] == [], name


def test_a_run_that_was_frozen_for_good_goes_on_unfrozen(tiny_data: Path, tmp_path: Path) -> None:
    """The optimiser of both has the same places, so its state fits."""
    cli = make_cli(options(tiny_data, tmp_path, **{"model.freeze_backbone": "true", "trainer.max_epochs": 1}))
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    last = tmp_path / "yolo" / "version_0" / "checkpoints" / "last.ckpt"
    before = backbone({k: v.clone() for k, v in cli.model.model.state_dict().items()})
    cli = make_cli(options(tiny_data, tmp_path, **{"trainer.max_epochs": 2}))
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=str(last))
    after = backbone(cli.model.model.state_dict())
    assert all(not torch.equal(after[name], value) for name, value in before.items())
