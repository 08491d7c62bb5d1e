"""Losses and metrics by epoch as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from yolo.core.files import write_atomically

PANELS = (("box", "cls", "dfl"), ("mAP", "mAP50", "mAP75"), ("precision", "recall", "f1"))
TITLES = ("training loss", "COCO average precision", "at the production threshold")


def draw_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw one panel for losses and two for metrics.

    Args:
        rows: one mapping per epoch, with ``epoch`` and any of the names in ``PANELS``.
        path: a PNG file, replaced atomically.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), dpi=100, layout="constrained")
    for axes, names, title in zip(figure.subplots(1, len(PANELS)), PANELS, TITLES, strict=True):
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    for axes in figure.axes[1:]:
        axes.set_ylim(0, 1)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    write_atomically(path, data.getvalue())
