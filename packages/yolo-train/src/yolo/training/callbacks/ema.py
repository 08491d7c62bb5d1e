"""An exponential moving average of the weights: what is validated, saved for use, and shipped."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from yolo.core.errors import UsageError
from yolo.training.module import YOLOModule
from yolo.training.processes import share_from_first


class EMACallback(Callback):
    """Keep a smoothed copy of the network and put it in its place while validating.

    After each optimiser step ``ema += (1 - d) * (weights - ema)`` with ``d = decay * (1 - exp(-updates / tau))``, so
    that the first steps follow the weights closely. Norm statistics are averaged in the same way; integers are copied.

    A step that leaves the weights as they are (one that the loss scaler of ``16-mixed`` or the guard leaves out) is an
    update like any other: whether the scaler left a step out is known only on the device, and to ask would make
    every step wait for it.

    Args:
        decay: the limit of the averaging factor.
        tau: steps over which it is approached.
        enabled: false keeps the plain weights everywhere.
    """

    def __init__(self, decay: float = 0.9999, tau: float = 2000.0, enabled: bool = True) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"ema.decay is {decay}; it has to be at least 0 and below 1")
        if not tau > 0:
            raise UsageError(f"ema.tau is {tau}; it has to be above 0")
        self.decay = decay
        self.tau = tau
        self.enabled = enabled
        self.updates = 0
        self._average: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] = {}
        self._last_step = 0
        self._pairs: _Pairs | None = None

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
        if not self._average:
            self.updates = 0  # a run that went on without averages for a while begins them anew
        source = self._average or state
        # With the device and the memory layout of the network, which a checkpoint does not keep.
        self._average = {name: torch.empty_like(value).copy_(source[name]) for name, value in state.items()}
        self._last_step = trainer.global_step
        self._pairs = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step that a resumed run is at, which is known only now."""
        self._last_step = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the network anew: somebody may have replaced a module."""
        self._pairs = None

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Update once per optimiser step, which under accumulation is not every batch."""
        if not self.enabled or trainer.global_step == self._last_step:
            return
        assert isinstance(pl_module, YOLOModule)
        self._last_step = trainer.global_step
        self.updates += 1
        if self._pairs is None or not self._pairs.hold():
            self._pairs = _Pairs.of(pl_module.model, self._average)
            self._average = self._pairs.averages
        self._pairs.follow(1 - self.factor())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the averages in."""
        if self.average is None or self._raw:
            return
        assert isinstance(pl_module, YOLOModule)
        self._raw = {name: value.detach().clone() for name, value in pl_module.model.state_dict().items()}
        pl_module.model.load_state_dict(self._average)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the training weights back, before any checkpoint is written."""
        if not self._raw:
            return
        assert isinstance(pl_module, YOLOModule)
        pl_module.model.load_state_dict(self._raw)
        self._raw = {}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let all processes have the averages of the first, which are the saved ones: norm statistics differ."""
        share_from_first(self._average.values())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Never leave the averages in the place of the training weights."""
        self.on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the counter; the averages are in the checkpoint's bundle, so that they are stored once."""
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counter."""
        self.updates = int(state_dict["updates"]) if self.enabled else 0

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the averages."""
        from yolo.training.checkpoint import averaged_state

        self._average = (averaged_state(checkpoint) if self.enabled else None) or {}


class _Pairs:
    """The tensors of a network and of its averages, side by side, so that an update need not look for them.

    To collect the state of a network takes about as long as to average it.
    """

    def __init__(self, model: nn.Module, averages: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        self.averages = averages
        moving = [name for name, value in state.items() if value.is_floating_point()]
        copied = [name for name, value in state.items() if not value.is_floating_point()]
        self._moving = [averages[name] for name in moving], [state[name] for name in moving]
        self._copied = [averages[name] for name in copied], [state[name] for name in copied]
        # Enough to tell whether a module was replaced or moved, without collecting the state.
        self._parts = [(part._modules, *item) for part in model.modules() for item in part._modules.items()]
        self._samples = [
            (held, name, tensor.data_ptr())
            for part in model.modules()
            for held in (part._parameters, part._buffers)
            for name, tensor in list(held.items())[:1]
            if tensor is not None
        ]

    @classmethod
    def of(cls, model: nn.Module, averages: dict[str, Tensor]) -> _Pairs:
        """Pair a network with its averages; what was not there before begins as it is."""
        state = {name: value.detach() for name, value in model.state_dict().items()}
        fitting = {name: averages.get(name) for name in state}
        return cls(
            model,
            {
                name: value.clone() if (own := fitting[name]) is None or own.shape != value.shape else own
                for name, value in state.items()
            },
            state,
        )

    def hold(self) -> bool:
        """Whether the network still has the same tensors."""
        return all(held.get(name) is part for held, name, part in self._parts) and all(
            (tensor := held.get(name)) is not None and tensor.data_ptr() == pointer
            for held, name, pointer in self._samples
        )

    def follow(self, weight: float) -> None:
        """Move the averages towards the network by a share of the way, and copy what is no fraction."""
        torch._foreach_lerp_(*self._moving, weight)
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)
