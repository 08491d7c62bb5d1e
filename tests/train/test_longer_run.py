"""A resumed run of another length goes on from the rate it had, unless a jump was asked for, which is announced."""

from __future__ import annotations

import io
import logging
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from yolo.core.errors import UsageError
from yolo.training.config import ModelConfig
from yolo.training.optim import build_optimizer, check_optimizer, settle_groups
from yolo.training.schedulers import TrainingLength, WarmupSchedule, build_schedule

PER_EPOCH = 10


def start(config: ModelConfig, epochs: int, per_epoch: int = PER_EPOCH) -> WarmupSchedule:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    length = TrainingLength(steps_per_epoch=per_epoch, max_epochs=epochs)
    return build_schedule(build_optimizer(model, config), config, length)


def walk(schedule: WarmupSchedule, until: int) -> list[tuple[float, ...]]:
    """Go on to a step; returns rates and momentum of all groups at every step before it."""
    seen = []
    while schedule.last_epoch < until:
        seen.append(tuple(g[key] for g in schedule.optimizer.param_groups for key in ("lr", "momentum") if key in g))
        schedule.optimizer.step()
        schedule.step()
    return seen


def resume(old: WarmupSchedule, config: ModelConfig, epochs: int, per_epoch: int = PER_EPOCH) -> WarmupSchedule:
    """Do what Lightning does, through a file: the optimiser first."""
    file = io.BytesIO()
    torch.save({"optimizer": old.optimizer.state_dict(), "schedule": old.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    new = start(config, epochs, per_epoch)
    new.optimizer.load_state_dict(saved["optimizer"])
    new.load_state_dict(saved["schedule"])
    return new


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="yolo.training")
    return caplog


@pytest.mark.parametrize("name", ["cosine", "linear", "step", "one_cycle"])
@pytest.mark.parametrize("at", [0, 4, 30, 77])
def test_with_the_same_length_every_value_is_the_same(name: str, at: int, said: pytest.LogCaptureFixture) -> None:
    config = ModelConfig(lr_scheduler=name, step_size=2, warmup_epochs=1)
    whole = walk(start(config, 10), 100)
    first = start(config, 10)
    walk(first, at)
    assert walk(resume(first, config, 10), 100) == whole[at:], "bit for bit"
    assert said.messages == []


@pytest.mark.parametrize("name", ["cosine", "linear", "one_cycle"])
def test_a_longer_run_goes_on_without_a_jump(name: str, said: pytest.LogCaptureFixture) -> None:
    config = ModelConfig(lr_scheduler=name, warmup_epochs=1)
    first = start(config, 10)
    before = walk(first, 60)
    reached = first.get_last_lr()[-1]
    longer = resume(first, config, 20)
    assert longer.get_last_lr()[-1] == reached, "not one bit of a jump"
    assert [m.split(":")[0] for m in said.messages] == ["Resumed at step 60, ends at step 200 instead of 100"]
    assert "without a jump" in said.messages[0]
    after = walk(longer, 200)
    largest = max(abs(a[-2] - b[-2]) for a, b in pairwise(before[10:]))
    assert max(abs(a[-2] - b[-2]) for a, b in pairwise(after)) <= largest
    # The 40 % of the schedule that were left take 140 steps instead of 40; it ends where the schedule ends.
    assert after[35][-2] == pytest.approx(start(config, 10).course.rate_at(70))
    assert longer.course.rate_at(200) == pytest.approx(start(config, 10).course.rate_at(100))


def test_an_extended_run_that_is_resumed_again_is_the_same_run(said: pytest.LogCaptureFixture) -> None:
    config = ModelConfig(warmup_epochs=1)
    first = start(config, 10)
    walk(first, 60)
    longer = resume(first, config, 20)
    walk(longer, 90)
    twice = resume(longer, config, 20)
    assert len(said.messages) == 1
    assert walk(twice, 200) == walk(longer, 200)
    assert len(twice.course.timeline.legs) == 2


def test_a_finished_run_stays_at_its_last_rate_or_begins_anew_if_asked(said: pytest.LogCaptureFixture) -> None:
    config = ModelConfig(warmup_epochs=1)
    first = start(config, 10)
    walk(first, 100)
    longer = resume(first, config, 20)
    assert [rates[-2] for rates in walk(longer, 200)] == pytest.approx([0.01 * 0.01] * 100)
    assert "stays at 0.0001; --model.lr_extend stretch" in said.messages[0]
    said.clear()
    stretched = resume(first, ModelConfig(warmup_epochs=1, lr_extend="stretch"), 20)
    whole = start(config, 20)
    walk(whole, 100)
    assert walk(stretched, 200) == [pytest.approx(rates) for rates in walk(whole, 200)]
    assert said.messages == [
        "Resumed at step 100, ends at step 200 instead of 100: the rate jumps from 0.0001 to 0.00505."
    ]


def test_a_stretched_run_is_resumed_exactly(said: pytest.LogCaptureFixture) -> None:
    config = ModelConfig(warmup_epochs=1, lr_extend="stretch")
    first = start(config, 10)
    walk(first, 50)
    longer = resume(first, config, 20)
    walk(longer, 80)
    said.clear()
    assert walk(resume(longer, config, 20), 200) == walk(longer, 200)
    assert said.messages == []


def test_steps_by_epochs_do_not_mind_the_length() -> None:
    config = ModelConfig(lr_scheduler="step", step_size=8, step_gamma=0.5, warmup_epochs=0)
    whole = walk(start(config, 20), 200)
    first = start(config, 10)
    walk(first, 100)
    assert walk(resume(first, config, 20), 200) == whole[100:]


def test_a_shorter_run_comes_to_the_end_of_the_schedule() -> None:
    config = ModelConfig(warmup_epochs=0)
    first = start(config, 20)
    walk(first, 50)
    shorter = resume(first, config, 8)
    assert shorter.get_last_lr() == first.get_last_lr()
    assert shorter.course.rate_at(80) == pytest.approx(0.0001)


def test_another_batch_size_goes_on_without_a_jump_and_ends_with_the_last_epoch(said: pytest.LogCaptureFixture) -> None:
    config = ModelConfig(warmup_epochs=1)
    first = start(config, 10)
    walk(first, 50)
    bigger = resume(first, config, 10, per_epoch=4)
    assert bigger.get_last_lr() == first.get_last_lr()
    assert bigger.course.timeline.end == 50 + 5 * 4
    assert bigger.course.timeline.epoch_at(58) == pytest.approx(7)
    assert bigger.course.rate_at(60) == pytest.approx(start(config, 10).course.rate_at(75))
    assert bigger.warmup_steps == 10
    assert "ends at step 70 instead of 100" in said.messages[0]


def test_a_warm_up_that_was_cut_does_not_come_back() -> None:
    config = ModelConfig(warmup_epochs=3)
    first = start(config, 2)
    assert first.warmup_steps == 19
    walk(first, 20)
    longer = resume(first, config, 100)
    assert longer.get_last_lr() == first.get_last_lr()
    assert longer.warmup_steps == 19


@pytest.mark.parametrize(
    "changed",
    [{"learning_rate": 0.02}, {"lr_scheduler": "linear"}, {"lr_min_factor": 0.5}],
    ids=lambda c: next(iter(c)),
)
def test_settings_that_were_changed_hold_and_the_jump_is_announced(
    changed: dict[str, Any], said: pytest.LogCaptureFixture
) -> None:
    first = start(ModelConfig(warmup_epochs=1), 10)
    walk(first, 75)
    config = ModelConfig(**{"warmup_epochs": 1, **changed})
    second = resume(first, config, 10)
    wanted = start(config, 10).course.rate_at(75)
    assert second.get_last_lr() == [wanted] * 3 == [g["lr"] for g in second.optimizer.param_groups]
    assert len(said.messages) == 1
    assert f"Resumed at step 75 with other settings: the rate jumps from 0.00155 to {wanted:.4g}" in said.messages[0]


def test_a_state_of_the_first_version_is_read() -> None:
    config = ModelConfig(warmup_epochs=1)
    first = start(config, 10)
    walk(first, 42)
    state = {"last_epoch": 42, "base_lrs": [0.01] * 3, "base_momenta": [0.937] * 3, "_step_count": 43, "_last_lr": []}
    second = start(config, 10)
    second.load_state_dict(state)
    assert walk(second, 100) == walk(first, 100)


def test_decay_and_betas_of_the_configuration_hold_after_a_resume(said: pytest.LogCaptureFixture) -> None:
    model = nn.Conv2d(3, 4, 3)
    old = build_optimizer(model, ModelConfig(optimizer="adamw"))
    config = ModelConfig(optimizer="adamw", weight_decay=0.05, adamw_betas=[0.9, 0.99])
    new = build_optimizer(model, config)
    settle_groups(new, config)
    assert said.messages == []
    new.load_state_dict(old.state_dict())
    settle_groups(new, config)
    assert {g["name"]: g["weight_decay"] for g in new.param_groups} == {"bias": 0.0, "weight": 0.05}
    assert all(g["betas"] == (0.9, 0.99) for g in new.param_groups)
    assert said.messages == [
        "Resumed with other settings of the optimiser: betas (0.9, 0.999) -> (0.9, 0.99), weight_decay 0.0005 -> 0.05."
    ]


@pytest.mark.parametrize(("used", "wanted"), [("sgd", "adamw"), ("adamw", "sgd")])
def test_the_state_of_another_optimiser_is_refused(used: Any, wanted: Any) -> None:
    optimizer = build_optimizer(nn.Conv2d(3, 4, 3), ModelConfig(optimizer=used))
    checkpoint = {"optimizer_states": [optimizer.state_dict()]}
    check_optimizer(checkpoint, ModelConfig(optimizer=used))
    check_optimizer({}, ModelConfig(optimizer=wanted))
    with pytest.raises(UsageError, match=f"a run with {used}, but model.optimizer is {wanted}"):
        check_optimizer(checkpoint, ModelConfig(optimizer=wanted))
