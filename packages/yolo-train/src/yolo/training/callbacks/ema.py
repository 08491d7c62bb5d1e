"""An exponential moving average of the weights: what is validated, saved for use, and shipped."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from yolo.training.module import YOLOModule


class EMACallback(Callback):
    """Keep a smoothed copy of the network and put it in its place while validating.

    After each optimiser step ``ema += (1 - d) * (weights - ema)`` with ``d = decay * (1 - exp(-updates / tau))``, so
    that the first steps follow the weights closely. Norm statistics are averaged in the same way; integers are copied.

    Args:
        decay: the limit of the averaging factor.
        tau: steps over which it is approached.
        enabled: false keeps the plain weights everywhere.
    """

    def __init__(self, decay: float = 0.9999, tau: float = 2000.0, enabled: bool = True) -> None:
        self.decay = decay
        self.tau = tau
        self.enabled = enabled
        self.updates = 0
        self._average: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] = {}
        self._last_step = 0

    @property
    def average(self) -> dict[str, Tensor] | None:
        """The averaged state of the network, keys as in its state dict; None when there is none."""
        return self._average if self.enabled and self._average else None

    def factor(self) -> float:
        """Return the averaging factor of the present update."""
        return self.decay * (1 - math.exp(-self.updates / self.tau))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the weights as they are, or carry on with the averages of a resumed checkpoint."""
        if not self.enabled:
            return
        assert isinstance(pl_module, YOLOModule)
        state = pl_module.model.state_dict()
        source = self._average or state
        self._average = {name: source[name].detach().to(value.device, copy=True) for name, value in state.items()}
        self._last_step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Update once per optimiser step, which under accumulation is not every batch."""
        if not self.enabled or trainer.global_step == self._last_step:
            return
        assert isinstance(pl_module, YOLOModule)
        self._last_step = trainer.global_step
        self.updates += 1
        weight = 1 - self.factor()
        averages, values = [], []
        for name, value in pl_module.model.state_dict().items():
            if value.is_floating_point():
                averages.append(self._average[name])
                values.append(value.detach())
            else:
                self._average[name].copy_(value)
        torch._foreach_lerp_(averages, values, weight)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the averages in."""
        if self.average is None or self._raw:
            return
        assert isinstance(pl_module, YOLOModule)
        self._raw = {name: value.clone() for name, value in pl_module.model.state_dict().items()}
        pl_module.model.load_state_dict(self._average)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the training weights back, before any checkpoint is written."""
        if not self._raw:
            return
        assert isinstance(pl_module, YOLOModule)
        pl_module.model.load_state_dict(self._raw)
        self._raw = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Never leave the averages in the place of the training weights."""
        self.on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the counter; the averages are in the checkpoint's bundle, so that they are stored once."""
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counter."""
        self.updates = int(state_dict["updates"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the averages."""
        from yolo.training.checkpoint import averaged_state

        self._average = averaged_state(checkpoint) or {}
