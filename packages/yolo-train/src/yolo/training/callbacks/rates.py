"""Curves of what drives the optimiser: the rate of every group, the momentum, the factor of the averages."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from torch.optim import Optimizer

from yolo.training.callbacks.ema import EMACallback


class RateCurves(Callback):
    """Logs ``lr/<group>`` (bias, norm, weight), ``momentum`` and ``ema/factor`` whenever losses are logged.

    The values are those that the step is taken with. Where Lightning's LearningRateMonitor is listed, the rates are
    left to it.

    Args:
        enabled: false logs nothing.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the values of this step, if it is one that is logged."""
        if not self.enabled or not trainer.loggers or not trainer._logger_connector.should_update_logs:
            return
        callbacks = getattr(trainer, "callbacks", [])
        monitored = any(isinstance(callback, LearningRateMonitor) for callback in callbacks)
        values = {} if monitored else {f"lr/{_name(group, at)}": float(group["lr"])
                                       for at, group in enumerate(optimizer.param_groups)}  # fmt: skip
        if "momentum" in optimizer.param_groups[0]:
            values["momentum"] = float(optimizer.param_groups[0]["momentum"])
        average = next((c for c in callbacks if isinstance(c, EMACallback) and c.average is not None), None)
        if average is not None:
            values["ema/factor"] = average.factor()
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.fit_loop.epoch_loop._batches_that_stepped)


def _name(group: dict[str, Any], at: int) -> str:
    return str(group.get("name") or at)
