"""Rate and momentum as pure functions of the optimiser step: a schedule with a warm-up in front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from yolo.core.errors import UsageError, YoloError
from yolo.core.plugins import resolve
from yolo.training.config import ModelConfig
from yolo.training.schedulers.length import TrainingLength
from yolo.training.schedulers.timeline import Timeline

Curve = Callable[[float], float]
"""A schedule: share of the training done (0..1) -> factor of the base rate. Third parties register a class that takes
the :class:`ScheduleConfig` and is such a callable; with ``counts = "epochs"`` it is called with the epochs done."""


@dataclass(frozen=True)
class Course:
    """What the optimiser is driven by, at every step.

    During the warm-up the rate of a group goes linearly from its start to the curve (arXiv:1706.02677, section 2.2),
    and the momentum of SGD from ``warmup_momentum`` to ``momentum``. The start is 0, or with SGD ``warmup_bias_lr`` for
    the group named ``bias`` (Adam's steps have the size of the rate, whatever the gradient).

    Args:
        config: rate, momentum, warm-up.
        curve: factor of the rate.
        timeline: where a step lies.
        warmup_steps: optimiser steps of warm-up.
    """

    config: ModelConfig
    curve: Curve
    timeline: Timeline
    warmup_steps: int

    def factor_at(self, step: int) -> float:
        """Return the factor of the base rate at a step, without the warm-up.

        Raises:
            YoloError: the schedule gives something that is no factor.
        """
        by_epochs = getattr(self.curve, "counts", "progress") == "epochs"
        where = self.timeline.epoch_at(step) if by_epochs else self.timeline.progress_at(step)
        factor = float(self.curve(where))
        if not 0 <= factor < math.inf:
            raise YoloError(f"model.lr_scheduler: {schedule_name(self.config)} gave the factor {factor} at step {step}")
        return factor

    def rate_at(self, step: int, group: str = "weight") -> float:
        """Return the rate of a parameter group at an optimiser step, counted from 0."""
        target = self.config.learning_rate * self.factor_at(step)
        if step >= self.warmup_steps:
            return target
        start = self.config.warmup_bias_lr if group == "bias" and self.config.optimizer == "sgd" else 0.0
        return start + (target - start) * step / self.warmup_steps

    def momentum_at(self, step: int) -> float:
        """Return the momentum of SGD at an optimiser step; one of 0 has no warm-up."""
        base, start = self.config.momentum, self.config.warmup_momentum
        if step >= self.warmup_steps or base == 0:
            return base
        return start + (base - start) * step / self.warmup_steps

    def resumed(self, step: int, length: TrainingLength, saved: Mapping[str, Any]) -> Course:
        """Return the course of a run that goes on at ``step``, given what :meth:`state` of the run before returned."""
        known = "legs" in saved
        timeline = Timeline.from_lists(saved["legs"]) if known else self.timeline
        stretch = self.config.lr_extend == "stretch"
        # The warm-up of a short training was cut; a longer one must not fall back into it.
        same = known and saved["warmup_epochs"] == self.config.warmup_epochs
        return replace(
            self,
            timeline=timeline.resumed(step, length, stretch=stretch),
            warmup_steps=int(saved["warmup_steps"]) if same else self.warmup_steps,
        )

    def state(self) -> dict[str, Any]:
        """Return plain numbers: all that does not follow from the configuration."""
        return {
            "legs": self.timeline.as_lists(),
            "warmup_steps": self.warmup_steps,
            "warmup_epochs": float(self.config.warmup_epochs),
        }


def plan_course(config: ModelConfig, length: TrainingLength) -> Course:
    """Return the course of a new training.

    Args:
        config: names the schedule.
        length: of the training.

    Raises:
        UsageError: no such schedule is registered, or its arguments are wrong.
    """
    timeline = Timeline.begin(length)
    # A warm-up longer than the training would never reach the curve.
    warmup = min(round(config.warmup_epochs * length.steps_per_epoch), max(timeline.end - 1, 0))
    return Course(config, _curve(config), timeline, warmup)


def schedule_name(config: ModelConfig) -> str:
    """Return what the schedule is called in the configuration."""
    value = config.lr_scheduler
    return value if isinstance(value, str) else str(value.get("class_path", value.get("use")))


def _gathered(value: str | dict[str, Any]) -> str | dict[str, Any]:
    """Put arguments under init_args: jsonargparse leaves ``--model.lr_scheduler.init_args.key`` beside class_path."""
    if isinstance(value, str) or "class_path" not in value or not isinstance(value.get("init_args") or {}, Mapping):
        return value
    loose = {key: item for key, item in value.items() if key not in ("class_path", "init_args")}
    return {"class_path": value["class_path"], "init_args": {**(value.get("init_args") or {}), **loose}}


def _curve(config: ModelConfig) -> Curve:
    target, arguments = resolve("lr_schedulers", _gathered(config.lr_scheduler))
    what = f"model.lr_scheduler: {schedule_name(config)}"
    try:
        curve: Curve = target(config, **arguments)
    except TypeError as error:
        raise UsageError(f"{what} does not take these init_args: {error}") from error
    if not callable(curve):
        raise UsageError(f"{what} is no schedule, it cannot be called")
    counts = getattr(curve, "counts", "progress")
    if counts not in ("progress", "epochs"):
        raise UsageError(f"{what} counts {counts!r}; known are progress and epochs")
    return curve
