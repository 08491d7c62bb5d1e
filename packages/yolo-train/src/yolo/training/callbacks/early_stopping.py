"""Early stopping that can be switched off by name."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class YOLOEarlyStopping(EarlyStopping):
    """Stop when the monitored metric has not improved for ``patience`` validations.

    Args:
        monitor: metric to watch.
        mode: ``max`` or ``min``.
        patience: validations to wait.
        min_delta: what counts as an improvement.
        verbose: say so when stopping.
        check_on_train_epoch_end: false checks after validation, which is what a resume needs.
        strict: fail when the metric is not there (a run without validation).
        check_finite: stop when the metric is not a number any more.
        stopping_threshold: stop as soon as the metric is this good.
        divergence_threshold: stop as soon as it is this bad.
        enabled: false trains for the full number of epochs.
    """

    def __init__(
        self,
        monitor: str = "val/mAP",
        mode: str = "max",
        patience: int = 50,
        min_delta: float = 0.0,
        verbose: bool = True,
        check_on_train_epoch_end: bool = False,
        strict: bool = False,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        enabled: bool = True,
    ) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            patience=patience,
            min_delta=min_delta,
            verbose=verbose,
            check_on_train_epoch_end=check_on_train_epoch_end,
            strict=strict,
            check_finite=check_finite,
            stopping_threshold=stopping_threshold,
            divergence_threshold=divergence_threshold,
        )
        self.enabled = enabled

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check after validation."""
        if self.enabled:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check after the epoch, when asked to."""
        if self.enabled:
            super().on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers (the weights-only reader refuses nothing of it)."""
        state = super().state_dict()
        return {**state, "best_score": float(state["best_score"])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counter and the best score."""
        import torch

        super().load_state_dict({**state_dict, "best_score": torch.tensor(state_dict["best_score"])})
