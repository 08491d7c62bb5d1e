"""Pictures of an evaluation: precision, recall and F1 as curves, and the confusion matrix."""

from __future__ import annotations

from pathlib import Path

from yolo.training.metrics import Evaluation
from yolo.training.plots.curves import f1_curve, pr_curve, precision_curve, recall_curve
from yolo.training.plots.matrix import confusion_picture
from yolo.training.plots.style import write_png

FIGURES = {
    "PR_curve.png": pr_curve,
    "F1_curve.png": f1_curve,
    "P_curve.png": precision_curve,
    "R_curve.png": recall_curve,
    "confusion_matrix.png": confusion_picture,
}

__all__ = ["FIGURES", "draw_metric_plots"]


def draw_metric_plots(evaluation: Evaluation, folder: str | Path) -> list[Path]:
    """Draw all of :data:`FIGURES`, each replaced atomically.

    Args:
        evaluation: of the process that holds the detections; of any other there is nothing to draw.
        folder: made if it does not exist.

    Returns:
        The files.
    """
    if evaluation.analysis is None:
        return []
    return [write_png(draw(evaluation, evaluation.analysis), Path(folder) / name) for name, draw in FIGURES.items()]
