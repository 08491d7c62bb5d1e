"""Every registered schedule, and the built-in ones against formulas written down here and against PyTorch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from yolo.core.errors import UsageError, YoloError
from yolo.core.plugins import registry
from yolo.training.config import ModelConfig, ScheduleConfig
from yolo.training.schedulers import Course, TrainingLength, plan_course
from yolo.training.trainer_cli import make_cli

PER_EPOCH, EPOCHS, RATE = 10, 12, 0.02
TOTAL = PER_EPOCH * EPOCHS


def course(warmup_epochs: float = 0, **settings: Any) -> Course:
    config = ModelConfig(learning_rate=RATE, warmup_epochs=warmup_epochs, **settings)
    return plan_course(config, TrainingLength(steps_per_epoch=PER_EPOCH, max_epochs=EPOCHS))


def of_torch(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], steps: int = TOTAL) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    schedule = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", registry("lr_schedulers").names())
def test_every_registered_schedule(name: str) -> None:
    """Factors are finite, between 0 and 1, the same when asked twice and in any order, and the warm-up joins on."""
    made, bare = course(3, lr_scheduler=name), course(lr_scheduler=name)
    factors = [made.factor_at(step) for step in range(TOTAL + 1)]
    assert factors == [made.factor_at(step) for step in reversed(range(TOTAL + 1))][::-1]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == pytest.approx(1)
    assert made.rate_at(0) == 0 and made.rate_at(0, "bias") == pytest.approx(0.1)
    assert made.momentum_at(0) == pytest.approx(0.8) and made.momentum_at(30) == 0.937
    for step in range(30, TOTAL):
        assert made.rate_at(step) == made.rate_at(step, "bias") == bare.rate_at(step)
    half = bare.rate_at(15)
    assert made.rate_at(15) == pytest.approx(half / 2)
    assert made.rate_at(15, "bias") == pytest.approx((0.1 + half) / 2)


def test_cosine_is_equation_5_of_sgdr() -> None:
    made = course(lr_scheduler="cosine", lr_min_factor=0.05)
    low = 0.05 * RATE
    for step in (0, 1, 37, 60, 119, 120):
        assert made.rate_at(step) == pytest.approx(low + 0.5 * (RATE - low) * (1 + math.cos(step / TOTAL * math.pi)))
    theirs = of_torch(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=TOTAL, eta_min=low))
    assert [made.rate_at(step) for step in range(TOTAL)] == pytest.approx(theirs)


def test_linear_ends_at_lr_min_factor() -> None:
    made = course(lr_scheduler="linear", lr_min_factor=0.1)
    assert [made.rate_at(step) for step in (0, 30, 60, 90, 120)] == pytest.approx([0.02, 0.0155, 0.011, 0.0065, 0.002])
    theirs = of_torch(lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=TOTAL))
    assert [made.rate_at(step) for step in range(TOTAL)] == pytest.approx(theirs)


def test_step_drops_at_the_border_of_an_epoch() -> None:
    made = course(lr_scheduler="step", step_size=4, step_gamma=0.3, lr_min_factor=0)
    assert [made.rate_at(step) for step in (0, 39, 40, 79, 80, 119)] == pytest.approx(
        [0.02, 0.02, 0.006, 0.006, 0.0018, 0.0018]
    )
    theirs = of_torch(lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=4 * PER_EPOCH, gamma=0.3))
    assert [made.rate_at(step) for step in range(TOTAL)] == pytest.approx(theirs)


def test_step_never_falls_below_lr_min_factor() -> None:
    made = course(lr_scheduler="step", step_size=2, step_gamma=0.1)
    assert [made.factor_at(step) for step in (0, 20, 40, 60, 100)] == pytest.approx([1, 0.1, 0.01, 0.01, 0.01])


def test_one_cycle_climbs_and_falls_along_cosines() -> None:
    made = course(lr_scheduler="one_cycle")
    first, last = RATE / 25, RATE / 25 / 10000
    assert made.rate_at(0) == pytest.approx(first)
    assert made.rate_at(18) == pytest.approx((first + RATE) / 2)  # half of the first 30 %
    assert made.rate_at(36) == pytest.approx(RATE)
    assert made.rate_at(78) == pytest.approx((RATE + last) / 2)
    assert made.rate_at(120) == pytest.approx(last)
    # PyTorch ends its phases one step earlier, at share * steps - 1; these arguments put them where ours are.
    share, steps = (0.3 * TOTAL + 1) / (TOTAL + 1), TOTAL + 1
    theirs = of_torch(
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer, max_lr=RATE, total_steps=steps, pct_start=share, cycle_momentum=False
        ),
        TOTAL,
    )
    assert [made.rate_at(step) for step in range(TOTAL)] == pytest.approx(theirs)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_cycle_may_only_fall_or_only_climb(share: float) -> None:
    factors = [course(lr_scheduler="one_cycle", one_cycle_pct_start=share).factor_at(s) for s in range(TOTAL)]
    assert factors == sorted(factors, reverse=share == 0)


class Plateau:
    def __init__(self, config: ScheduleConfig, decay: float = 0.2) -> None:
        self.decay, self.low = decay, config.lr_min_factor

    def __call__(self, progress: float) -> float:
        left = min((1 - progress) / self.decay, 1.0)
        return self.low + (1 - self.low) * left


class Broken:
    counts = "epochs"

    def __init__(self, config: ScheduleConfig) -> None: ...

    def __call__(self, epochs: float) -> float:
        return math.nan


def test_a_schedule_by_class_path_with_arguments() -> None:
    path = f"{__name__}.Plateau"
    made = course(lr_scheduler={"class_path": path, "init_args": {"decay": 0.5}}, lr_min_factor=0)
    assert [made.factor_at(step) for step in (0, 60, 90, 120)] == pytest.approx([1, 1, 0.5, 0])
    options = [f"--model.lr_scheduler.class_path={path}", "--model.lr_scheduler.init_args.decay=0.5"]
    parsed = make_cli([*options, "--trainer.logger=false", "--trainer.accelerator=cpu"]).model.config.lr_scheduler
    assert course(lr_scheduler=parsed, lr_min_factor=0).factor_at(90) == pytest.approx(0.5)
    assert course(lr_scheduler=path).factor_at(90) == 1
    with pytest.raises(UsageError, match="does not take these init_args"):
        course(lr_scheduler={"class_path": path, "init_args": {"decoy": 0.5}})


def test_a_schedule_that_gives_no_factor_is_named() -> None:
    with pytest.raises(YoloError, match=r"Broken gave the factor nan at step 7"):
        course(lr_scheduler=f"{__name__}.Broken").rate_at(7)
