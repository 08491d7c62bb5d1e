"""Rates and momenta are a pure function of the optimiser step."""

import math

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from yolo.core.errors import UsageError
from yolo.core.models import build_model
from yolo.training.config import ModelConfig
from yolo.training.optim import build_optimizer
from yolo.training.optim.groups import split_parameters
from yolo.training.schedulers import TrainingLength, WarmupSchedule
from yolo.training.schedulers import build_schedule as build
from yolo.training.schedulers.length import optimizer_steps


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def build_schedule(
    optimizer: torch.optim.Optimizer, config: ModelConfig, *, steps_per_epoch: int, total_steps: int
) -> WarmupSchedule:
    return build(optimizer, config, TrainingLength(steps_per_epoch=steps_per_epoch, max_steps=total_steps))


def drive(config: ModelConfig, steps: int, steps_per_epoch: int = 10, epochs: int = 5) -> list[dict[str, list[float]]]:
    optimizer = build_optimizer(small(), config)
    schedule = build_schedule(optimizer, config, steps_per_epoch=steps_per_epoch, total_steps=steps_per_epoch * epochs)
    seen = []
    for _ in range(steps):
        seen.append({str(g["name"]): [float(g["lr"]), float(g.get("momentum", 0.0))] for g in optimizer.param_groups})
        optimizer.step()
        schedule.step()
    return seen


def expected(step: int, total: int, low: float = 0.01) -> float:
    return low + (1 - low) * (1 + math.cos(math.pi * step / total)) / 2


def test_after_the_warm_up_all_groups_follow_the_cosine_without_drift() -> None:
    seen = drive(ModelConfig(warmup_epochs=1), 50)
    for step in range(10, 50):
        for rate, momentum in seen[step].values():
            assert rate == pytest.approx(0.01 * expected(step, 50))
            assert momentum == pytest.approx(0.937)


def test_warm_up_raises_weights_from_zero_and_lowers_biases() -> None:
    seen = drive(ModelConfig(warmup_epochs=1), 11)
    assert seen[0]["weight"] == [0.0, pytest.approx(0.8)]
    assert seen[0]["norm"][0] == 0.0
    assert seen[0]["bias"][0] == pytest.approx(0.1)
    half = 0.01 * expected(5, 50)
    assert seen[5]["weight"][0] == pytest.approx(half / 2)
    assert seen[5]["bias"][0] == pytest.approx(0.1 + (half - 0.1) / 2)
    assert seen[5]["weight"][1] == pytest.approx((0.8 + 0.937) / 2)
    assert seen[10]["bias"][0] == pytest.approx(seen[10]["weight"][0])


def test_a_warm_up_longer_than_the_training_is_cut() -> None:
    optimizer = build_optimizer(small(), ModelConfig())
    schedule = build_schedule(optimizer, ModelConfig(warmup_epochs=30), steps_per_epoch=4, total_steps=8)
    assert schedule.warmup_steps == 7


def test_a_resumed_schedule_continues_exactly() -> None:
    config = ModelConfig(warmup_epochs=1)
    whole = drive(config, 30)
    optimizer = build_optimizer(small(), config)
    schedule = build_schedule(optimizer, config, steps_per_epoch=10, total_steps=50)
    for _ in range(7):
        optimizer.step()
        schedule.step()
    saved, groups = schedule.state_dict(), optimizer.state_dict()
    other = build_optimizer(small(), config)
    resumed = build_schedule(other, config, steps_per_epoch=10, total_steps=50)
    other.load_state_dict(groups)
    resumed.load_state_dict(saved)
    for step in range(7, 30):
        assert {str(g["name"]): [float(g["lr"]), g["momentum"]] for g in other.param_groups} == whole[step]
        other.step()
        resumed.step()


def test_the_saved_state_is_plain_numbers() -> None:
    optimizer = build_optimizer(small(), ModelConfig())
    state = build_schedule(optimizer, ModelConfig(), steps_per_epoch=3, total_steps=6).state_dict()
    buffer = torch.serialization.io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True) == state


def test_an_unknown_schedule_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="cosine"):
        build_schedule(
            build_optimizer(small(), ModelConfig()), ModelConfig(lr_scheduler="cosin"), steps_per_epoch=1, total_steps=1
        )


def test_every_trainable_parameter_is_in_exactly_one_group_and_only_kernels_decay() -> None:
    model = build_model("v9-t", 3)
    groups = split_parameters(model)
    ids = [id(p) for part in (groups.biases, groups.norms, groups.weights) for p in part]
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert len(ids) == len(set(ids)) == len(trainable)
    assert all(p.ndim >= 2 for p in groups.weights)
    assert all(p.ndim == 1 for p in groups.norms + groups.biases)
    decays = {g["name"]: g["weight_decay"] for g in build_optimizer(model, ModelConfig()).param_groups}
    assert decays == {"bias": 0.0, "norm": 0.0, "weight": 5e-4}


def test_frozen_parameters_stay_out() -> None:
    model = small()
    model[0].weight.requires_grad_(False)
    assert "weight" not in {g["name"] for g in build_optimizer(model, ModelConfig()).param_groups}


def test_adamw_takes_its_betas() -> None:
    optimizer = build_optimizer(small(), ModelConfig(optimizer="adamw", adamw_betas=[0.8, 0.99]))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("nms_iou_threshold", 1.5),
        ("warmup_epochs", -1),
        ("adamw_betas", [0.9]),
        ("adamw_betas", [0.9, 1.0]),
        ("step_size", 0),
        ("step_gamma", -0.1),
        ("one_cycle_pct_start", 1.2),
        ("one_cycle_div_factor", 0.0),
        ("learning_rate", math.nan),
        ("lr_min_factor", math.inf),
    ],
)
def test_a_setting_that_cannot_train_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"model.{key}"):
        ModelConfig(**{key: value})


def test_the_biases_of_adamw_start_from_zero() -> None:
    config = ModelConfig(optimizer="adamw", learning_rate=0.001, warmup_epochs=1)
    assert drive(config, 1)[0]["bias"][0] == 0.0


def test_a_momentum_of_zero_has_no_warm_up() -> None:
    assert {value[1] for seen in drive(ModelConfig(momentum=0.0, warmup_epochs=1), 12) for value in seen.values()} == {
        0
    }


def test_a_group_that_is_added_later_gets_rate_and_momentum_of_the_step() -> None:
    config = ModelConfig(warmup_epochs=1)
    optimizer = build_optimizer(small(), config)
    schedule = build_schedule(optimizer, config, steps_per_epoch=10, total_steps=50)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    optimizer.add_param_group({"name": "thawed", "params": [nn.Parameter(torch.zeros(2, 2))], "weight_decay": 5e-4})
    schedule.apply()
    weights, thawed = optimizer.param_groups[-2:]
    assert (thawed["lr"], thawed["momentum"]) == (weights["lr"], weights["momentum"])
    optimizer.step()
    schedule.step()
    assert thawed["lr"] == weights["lr"] == schedule.get_last_lr()[-1] > 0


@pytest.mark.parametrize(
    ("epochs", "steps", "last"), [(3, -1, 12), (-1, 7, 7), (3, 7, 7), (3, 100, 12)], ids=["epochs", "steps", "a", "b"]
)
def test_the_last_step_is_where_training_ends(epochs: int, steps: int, last: int) -> None:
    trainer = Trainer(max_epochs=epochs, max_steps=steps, logger=False, accelerator="cpu")
    assert TrainingLength.of(trainer, 4).end() == last


def test_a_training_without_an_end_has_no_schedule() -> None:
    with pytest.raises(UsageError, match=r"trainer\.max_steps"):
        TrainingLength.of(Trainer(max_epochs=-1, logger=False, accelerator="cpu"), 4)


@pytest.mark.parametrize(
    ("images", "batch_size", "processes", "limit", "accumulate", "steps"),
    [
        (100, 8, 1, 1.0, 1, 13),
        (100, 8, 1, 1.0, 4, 4),  # 13 batches: the last step has one
        (101, 8, 2, None, 1, 7),  # 51 images a process
        (100, 8, 1, 5, 2, 3),
        (100, 8, 1, 0.5, 1, 6),
        (3, 8, 1, 0.1, 64, 1),
    ],
)
def test_steps_of_an_epoch_count_accumulation_processes_and_limits(
    images: int, batch_size: int, processes: int, limit: float | None, accumulate: int, steps: int
) -> None:
    got = optimizer_steps(images, batch_size=batch_size, processes=processes, limit=limit, accumulate=accumulate)
    assert got == steps
