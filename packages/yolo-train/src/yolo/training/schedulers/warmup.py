"""What Lightning steps: sets rate and momentum of every parameter group."""

from __future__ import annotations

import logging
import math
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from yolo.training.config import ModelConfig
from yolo.training.schedulers.course import Course, plan_course
from yolo.training.schedulers.length import TrainingLength

_log = logging.getLogger("yolo.training")


class WarmupSchedule(LRScheduler):
    """Set rate and momentum of every group to those of a :class:`Course`.

    Nothing is multiplied onto the last value, so groups cannot drift apart, a resumed run continues exactly, and
    a group that is added later gets the same values (:meth:`apply`).

    Args:
        optimizer: groups may carry a ``name``.
        course: rate and momentum by step.
        length: of the training.
    """

    def __init__(self, optimizer: Optimizer, course: Course, length: TrainingLength) -> None:
        self.course = course
        self.length = length
        super().__init__(optimizer)

    @property
    def warmup_steps(self) -> int:
        """Optimiser steps of warm-up."""
        return self.course.warmup_steps

    def get_lr(self) -> list[float | Any]:
        """Return the rate of each group at the present step (torch's interface)."""
        return [self.course.rate_at(self.last_epoch, _name(group)) for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        """Go one optimiser step on."""
        super().step(epoch)
        self._set_momentum()

    def apply(self) -> None:
        """Set the values of the present step again, for groups that were added or restored."""
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
        self._set_momentum()

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers only: the curve follows from the configuration."""
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "rates": {_name(group): float(group["lr"]) for group in self.optimizer.param_groups},
            **self.course.state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a run stopped; what the configuration says now holds from here on, and a jump is announced."""
        self.last_epoch = int(state_dict["last_epoch"])
        self._step_count = int(state_dict["_step_count"])
        self.course = self.course.resumed(self.last_epoch, self.length, state_dict)
        self.apply()
        _tell(self, dict(state_dict.get("rates", {})), state_dict.get("legs"))

    def _set_momentum(self) -> None:
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = self.course.momentum_at(self.last_epoch)


def build_schedule(optimizer: Optimizer, config: ModelConfig, length: TrainingLength) -> WarmupSchedule:
    """Build the schedule named in the configuration.

    Args:
        optimizer: what is driven.
        config: names the schedule.
        length: of the training.

    Raises:
        UsageError: no such schedule is registered, or its arguments are wrong.
    """
    return WarmupSchedule(optimizer, plan_course(config, length), length)


@rank_zero_only
def _tell(schedule: WarmupSchedule, before: dict[str, float], legs: list[list[float]] | None) -> None:
    """Say in one line what a resumed run changes of the rate, if it does."""
    course, step = schedule.course, schedule.last_epoch
    now = {_name(group): float(group["lr"]) for group in schedule.optimizer.param_groups}
    jumps = [name for name in now if name in before and not math.isclose(now[name], before[name], rel_tol=1e-6)]
    longer = legs is not None and legs != course.timeline.as_lists()
    ends = f"Resumed at step {step}, ends at step {course.timeline.end} instead of {legs[-1][-1]:.0f}" if legs else ""
    if jumps:
        name = "weight" if "weight" in jumps else jumps[0]
        what = ends if longer else f"Resumed at step {step} with other settings"
        _log.warning("%s: the rate jumps from %.4g to %.4g.", what, before[name], now[name])
    elif longer and course.timeline.progress_at(step) == 1 and getattr(course.curve, "counts", "") != "epochs":
        _log.info(
            "%s: the schedule had come to its end, so the rate stays at %.4g; --model.lr_extend stretch runs the "
            "schedule over the new length.",
            ends,
            now.get("weight", next(iter(now.values()))),
        )
    elif longer:
        _log.info("%s: the rate goes on from %.4g without a jump.", ends, now.get("weight", next(iter(now.values()))))


def _name(group: dict[str, Any]) -> str:
    return str(group.get("name", ""))
