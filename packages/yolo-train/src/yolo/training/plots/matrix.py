"""The confusion matrix as a picture."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from yolo.training.metrics import Evaluation
from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.flat import Floats, Indices
from yolo.training.plots.style import INK, add_small_print, drawable_names, new_figure, text_width

BACKGROUND = "background"
MOST_WITH_NUMBERS = 25  # classes
MOST_NAMED = 160
_SMALL, _LARGE = 0.17, 0.62  # inches of a cell: without and with room for numbers


def shares(matrix: Indices) -> Floats:
    """Return the matrix with every column divided by its sum; a column without any count stays zero."""
    total = matrix.sum(axis=0, keepdims=True)
    share: Floats = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    return share


def _visible(name: str) -> ListedColormap:
    """A colour map without its lightest tones, so that the smallest share is no blank."""
    return ListedColormap(colormaps[name](np.linspace(0.08, 1, 256)))


def confusion_picture(evaluation: Evaluation, analysis: Analysis) -> Figure:
    """Draw which share of the objects of a class was taken for which; empty cells stay blank."""
    confusion = analysis.confusion
    share, names = shares(confusion.matrix), [*drawable_names(confusion.class_names), BACKGROUND]
    count = len(names)
    numbered = count - 1 <= MOST_WITH_NUMBERS
    step = -(-count // MOST_NAMED)  # of very many classes every second, third, ... is named
    cell = _LARGE if count <= 8 else max(_LARGE * 8 / count, 0.4) if numbered else _SMALL / step
    size = 9 if numbered else 7
    margin = 0.5 + max(text_width(name, size) for name in names)
    side = max(cell * count, 2.8)  # as wide as the small print
    figure, axes = new_figure(side + margin + 1.0, side + margin + 0.95, left=margin, right=1.0,
                              bottom=margin + 0.45, top=0.5)  # fmt: skip
    picture = axes.imshow(np.ma.masked_equal(share, 0), cmap=_visible("Blues"), vmin=0, vmax=1, aspect="equal")
    if numbered:
        for row, column in np.argwhere(confusion.matrix > 0).tolist():
            text = f"{share[row, column]:.2f}\n{confusion.matrix[row, column]}"
            axes.text(column, row, text, ha="center", va="center", size=7 if count <= 12 else 5.5,
                      color="white" if share[row, column] > 0.55 else INK)  # fmt: skip
    ticks = [*range(0, count - 1, step), count - 1]
    shown = [names[tick] for tick in ticks]
    axes.set_xticks(ticks, shown, rotation=90, size=size, parse_math=False)
    axes.set_yticks(ticks, shown, size=size, parse_math=False)
    axes.tick_params(length=0)
    lines = np.arange(count + 1) - 0.5
    axes.hlines(lines, -0.5, count - 0.5, color="#d8dde3", linewidth=0.4)
    axes.vlines(lines, -0.5, count - 0.5, color="#d8dde3", linewidth=0.4)
    axes.set(xlabel="true", ylabel="predicted")
    axes.set_title("Confusion matrix", loc="left", size=12, weight="bold")
    bar = figure.colorbar(picture, cax=axes.inset_axes((1.02, 0.0, 0.18 / side, 1.0)))
    bar.set_label("share of the true class (of a column)", size=8)
    bar.ax.tick_params(labelsize=8)
    add_small_print(figure, evaluation, f"scores above {confusion.confidence:g}; last column: nothing there, "
                                        "last row: missed")  # fmt: skip
    return figure
