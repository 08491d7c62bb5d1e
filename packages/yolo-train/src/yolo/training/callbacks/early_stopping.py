"""Early stopping that can be switched off by name."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from yolo.core.errors import UsageError


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
        log_rank_zero_only: say so on the first process only.
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
        log_rank_zero_only: bool = True,
        enabled: bool = True,
    ) -> None:
        if mode not in ("max", "min"):
            raise UsageError(f"early_stopping.mode is {mode}; it has to be max or min")
        if patience < 0:
            raise UsageError(f"early_stopping.patience is {patience}; it cannot be negative")
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
            log_rank_zero_only=log_rank_zero_only,
        )
        self.enabled = enabled
        self.best_epoch = 0
        self.stopped = False
        self._settings = {
            "patience": patience,
            "min_delta": min_delta,
            "check_finite": check_finite,
            "stopping_threshold": stopping_threshold,
            "divergence_threshold": divergence_threshold,
        }
        self._still_stopped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a resumed run that had been stopped, unless a setting says otherwise now."""
        if not (self.enabled and self._still_stopped):
            self._still_stopped = False
            return
        if trainer.is_global_zero:
            print(
                f"EarlyStopping: this run was stopped in epoch {self.stopped_epoch + 1}, the best is epoch "
                f"{self.best_epoch}; raise --early_stopping.patience, or set --early_stopping.enabled false, to go on",
                flush=True,
            )
        if not trainer.fit_loop.restarting:  # else what is left of the epoch comes first
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check after validation."""
        if self.enabled:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check after the epoch, when asked to."""
        if self.enabled:
            trainer.should_stop |= self._still_stopped
            super().on_train_epoch_end(trainer, pl_module)

    def _run_early_stopping_check(self, trainer: Trainer) -> None:
        """Check, and say what came of it (epochs counted from 1)."""
        waited, epoch = self.wait_count, trainer.current_epoch + 1
        self.stopping_reason_message = None
        super()._run_early_stopping_check(trainer)
        if self.monitor not in trainer.callback_metrics or getattr(trainer, "fast_dev_run", False):
            return  # nothing was looked at
        self.stopped = self.stopping_reason_message is not None
        worse = self.wait_count > waited
        if not worse and not self.stopped:
            self.best_epoch = epoch
        if not (self.verbose and trainer.is_global_zero):
            return
        if worse:
            best = f"Best: {float(self.best_score):.4f} @ epoch {self.best_epoch}"
            print(f"Epoch {epoch}: {self.monitor} did not improve. {best}", flush=True)
        elif self.stopped:
            print(self.stopping_reason_message, flush=True)
        if self.stopped:
            print(f"EarlyStopping: Stopping training at epoch {epoch}", flush=True)

    def _log_info(self, trainer: Trainer, message: str, log_rank_zero_only: bool) -> None:  # type: ignore[override]
        """Leave it to the lines above; the summary of an epoch says what improved."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers (the weights-only reader refuses nothing of it)."""
        state = super().state_dict()
        own = {"best_epoch": self.best_epoch, "stopped": self.stopped, "settings": dict(self._settings)}
        return {**state, "best_score": float(state["best_score"]), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counter and the best score, but not the patience: what is set now holds."""
        score = torch.tensor(state_dict["best_score"])
        super().load_state_dict({**state_dict, "best_score": score, "patience": self.patience})
        self.best_epoch = int(state_dict.get("best_epoch", 0))
        self.stopped = bool(state_dict.get("stopped"))
        self._still_stopped = self.stopped and state_dict.get("settings") == self._settings
