"""Curves and the confusion matrix of every validation, as files of the run."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from yolo.training.module import YOLOModule
from yolo.training.runs import inside, writes_files


class MetricPlots(Callback):
    """Draws :data:`yolo.training.plots.FIGURES` after a validation, unless ``model.save_metrics_plots`` is false.

    They go to ``metrics/epoch_<N>`` in the run folder, N counted from 1 as in ``results.csv``, or to such a folder in
    ``model.metrics_plots_dir``. A second validation in one epoch replaces the pictures of the first.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        if trainer.sanity_checking or not (writes_files(trainer) and isinstance(pl_module, YOLOModule)):
            return
        config, evaluation = pl_module.config, pl_module.evaluation
        if config.save_metrics_plots and evaluation is not None:
            from yolo.training.plots import draw_metric_plots  # matplotlib

            home = inside(trainer, config.metrics_plots_dir or "metrics")
            draw_metric_plots(evaluation, home / f"epoch_{trainer.current_epoch + 1}")
