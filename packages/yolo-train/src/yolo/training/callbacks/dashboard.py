"""The tables that are shown after a validation."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from yolo.training.metrics import Evaluation
from yolo.training.metrics.tables import print_classes, print_quality, sparkline
from yolo.training.module import YOLOModule


class EvalDashboardCallback(Callback):
    """Shows COCO's numbers, precision and recall at the production threshold, trends and the best and worst classes.

    Args:
        conf_prod: threshold of precision, recall and F1; the module's ``nms_conf_threshold`` when not given.
        show_trends: draw the course of mAP over the last epochs.
        top_n_classes: how many of the best and of the worst classes to list.
        enabled: false shows nothing.
    """

    def __init__(
        self, conf_prod: float | None = None, show_trends: bool = True, top_n_classes: int = 3, enabled: bool = True
    ) -> None:
        self.conf_prod = conf_prod
        self.show_trends = show_trends
        self.top_n_classes = top_n_classes
        self.enabled = enabled
        self.history: list[float] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the production threshold to the evaluation."""
        if self.conf_prod is not None and isinstance(pl_module, YOLOModule):
            pl_module.operating_confidence = self.conf_prod

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the tables."""
        if trainer.sanity_checking or not isinstance(pl_module, YOLOModule) or pl_module.evaluation is None:
            return
        self.history.append(max(pl_module.evaluation.stats.AP, 0.0))
        if self.enabled and trainer.is_global_zero:
            self.show(pl_module.evaluation)

    def show(self, evaluation: Evaluation) -> None:
        """Print the tables of one evaluation."""
        print_quality(evaluation)
        if self.show_trends and len(self.history) > 1:
            recent = self.history[-10:]
            span = f"{min(recent):.4f} to {max(recent):.4f}"
            print(f"mAP of the last {len(recent)} epochs  {sparkline(recent)}  {span}", flush=True)
        if self.top_n_classes > 0:
            print_classes(evaluation, self.top_n_classes)

    def state_dict(self) -> dict[str, list[float]]:
        """Return the history, so that trends survive a resume."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, list[float]]) -> None:
        """Restore the history."""
        self.history = list(state_dict["history"])
