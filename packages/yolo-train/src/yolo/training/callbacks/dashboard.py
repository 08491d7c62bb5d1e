"""The tables that are shown after a validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from yolo.core.errors import UsageError
from yolo.training.metrics.tables import print_dashboard, score, trend_values
from yolo.training.module import YOLOModule


class EvalDashboardCallback(Callback):
    """Shows what an evaluation says: quality, production threshold, trends, classes, errors and confusions.

    Args:
        conf_prod: threshold of precision, recall, F1, errors and confusions; ``model.nms_conf_threshold`` (0.25) when
            not given.
        show_trends: draw the course of three metrics over the last ten validations.
        top_n_classes: how many of the best and of the worst classes, and of the confusions, to list; 0 lists none.
        enabled: false shows nothing.
    """

    def __init__(
        self, conf_prod: float | None = None, show_trends: bool = True, top_n_classes: int = 3, enabled: bool = True
    ) -> None:
        if conf_prod is not None and not 0 <= conf_prod <= 1:
            raise UsageError(f"dashboard.conf_prod is {conf_prod}; it has to be between 0 and 1")
        if top_n_classes < 0:
            raise UsageError(f"dashboard.top_n_classes is {top_n_classes}; it cannot be negative")
        self.conf_prod = conf_prod
        self.show_trends = show_trends
        self.top_n_classes = top_n_classes
        self.enabled = enabled
        self.history: list[dict[str, float]] = []
        self.best = -math.inf

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the production threshold to the evaluation."""
        if self.conf_prod is not None and isinstance(pl_module, YOLOModule):
            pl_module.operating_confidence = self.conf_prod

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the tables, and remember the numbers if this is a training."""
        if trainer.sanity_checking or not isinstance(pl_module, YOLOModule) or pl_module.evaluation is None:
            return
        evaluation, training = pl_module.evaluation, trainer.state.fn == TrainerFn.FITTING
        best, info = None, []
        if training:
            best, self.best = self.best, max(self.best, score(evaluation))
            self.history.append({"epoch": trainer.current_epoch + 1, **trend_values(evaluation)})
            limit = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
            info = [f"epoch: {trainer.current_epoch + 1}{limit}"]
        if self.enabled and trainer.is_global_zero:
            print_dashboard(
                evaluation,
                history=self.history if training and self.show_trends else (),
                best=best,
                top_n=self.top_n_classes,
                info=info,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return history and best, so that both survive a resume."""
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore history and best; a history of numbers, as it once was, holds mAP alone."""
        self.history = [dict(e) if isinstance(e, Mapping) else {"AP": float(e)} for e in state_dict["history"]]
        known = (np.float32(max(entry["AP"], 0.0)) for entry in self.history)
        self.best = float(state_dict.get("best", max(known, default=-math.inf)))
