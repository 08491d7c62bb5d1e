"""The schedule an optimiser is driven by: a registered curve with a linear warm-up in front."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from yolo.core.plugins import registry
from yolo.training.config import ModelConfig

Curve = Callable[[float], float]
"""A schedule: fraction of the training done (0..1) -> factor of the base rate. Third parties register a class that
takes the :class:`ScheduleConfig` and is such a callable."""


class WarmupSchedule(LRScheduler):
    """Set rate and momentum of every group as a pure function of the optimiser step.

    During the warm-up the rate of a group goes linearly from its start to the curve, and the momentum of SGD from
    ``warmup_momentum`` to its base value. The start is 0, or with SGD ``warmup_bias_lr`` for the group named ``bias``
    (Adam's steps have the size of the rate, whatever the gradient). Nothing is multiplied onto the last value, so
    groups cannot drift apart and a resumed run continues exactly.

    Args:
        optimizer: groups may carry a ``name``.
        curve: factor of the base rate by progress.
        config: warm-up settings, and the kind of optimiser.
        warmup_steps: optimiser steps of warm-up.
        total_steps: optimiser steps of the whole training.
    """

    def __init__(
        self, optimizer: Optimizer, curve: Curve, *, config: ModelConfig, warmup_steps: int, total_steps: int
    ) -> None:
        self.curve = curve
        self.config = config
        self.warmup_steps = warmup_steps
        self.total_steps = max(total_steps, 1)
        self.base_momenta: list[float | None] = [group.get("momentum") for group in optimizer.param_groups]
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Any]:
        """Return the rate of each group at the present step (torch's interface)."""
        return [
            self.rate_at(self.last_epoch, float(base), str(group.get("name", "")))
            for base, group in zip(self.base_lrs, self.optimizer.param_groups, strict=True)
        ]

    def rate_at(self, step: int, base: float, group: str = "weight") -> float:
        """Return the rate of a group with base rate ``base`` at an optimiser step, counted from 0."""
        target = base * self.curve(step / self.total_steps)
        if step >= self.warmup_steps:
            return target
        start = self.config.warmup_bias_lr if group == "bias" and self.config.optimizer == "sgd" else 0.0
        return start + (target - start) * step / self.warmup_steps

    def step(self, epoch: int | None = None) -> None:
        """Go one optimiser step on."""
        super().step(epoch)
        done = min(self.last_epoch / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        for group, base in zip(self.optimizer.param_groups, self.base_momenta, strict=True):
            if base is not None:
                group["momentum"] = self.config.warmup_momentum + (base - self.config.warmup_momentum) * done

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers only: the curve follows from the configuration."""
        return {
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
            "base_momenta": list(self.base_momenta),
            "_step_count": self._step_count,
            "_last_lr": [float(rate) for rate in self._last_lr],
        }


def build_schedule(
    optimizer: Optimizer, config: ModelConfig, *, steps_per_epoch: int, total_steps: int
) -> WarmupSchedule:
    """Build the schedule named in the configuration.

    Args:
        optimizer: what is driven.
        config: names the schedule.
        steps_per_epoch: optimiser steps (not batches: accumulation counts) in an epoch.
        total_steps: length of the whole training.

    Raises:
        UsageError: no such schedule is registered.
    """
    curve: Curve = registry("lr_schedulers").load(config.lr_scheduler)(config)
    # A warm-up longer than the training would never reach the curve.
    warmup = min(round(config.warmup_epochs * steps_per_epoch), max(total_steps - 1, 0))
    return WarmupSchedule(optimizer, curve, config=config, warmup_steps=warmup, total_steps=total_steps)
