"""What all figures have in common: size, small print, names that can be drawn, and how they become files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from PIL import Image

from yolo.core.files import write_atomically
from yolo.training.metrics import Evaluation
from yolo.training.metrics.operating import IOU_THRESHOLD
from yolo.training.metrics.table_view import shortened

DPI = 100
FONT = "DejaVu Sans"  # matplotlib brings it along, and takes it for its own texts
_COLOURS = 256
INK, SOFT = "#222222", "#777777"


def new_figure(
    width: float, height: float, *, left: float, right: float, bottom: float, top: float
) -> tuple[Figure, Axes]:
    """Return a figure with one set of axes; sizes and margins in inches.

    Margins are fixed because matplotlib's layout engines draw everything twice.
    """
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    )
    return figure, axes


def add_small_print(figure: Figure, evaluation: Evaluation, *more: str) -> None:
    """Write under a figure how its numbers were made."""
    part = "" if evaluation.images == evaluation.split_images else f" of {evaluation.split_images}"
    lines = [f"{evaluation.images}{part} images; {evaluation.protocol}; IoU {IOU_THRESHOLD:g}", *more]
    figure.text(0.08 / figure.get_figwidth(), 0.06 / figure.get_figheight(), "\n".join(lines), size=7, color=SOFT)


def drawable_names(names: Sequence[str]) -> list[str]:
    """Return names for a figure: shortened, and the number of the class where the font has no signs for its name."""
    signs = _signs()
    return [
        name if all(ord(sign) in signs for sign in name) else f"class {label}"
        for label, name in enumerate(map(shortened, names))
    ]


def write_png(figure: Figure, path: Path) -> Path:
    """Write a figure to a file of few colours and so of few bytes, which is replaced atomically."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # as matplotlib has it
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]  # the same
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    data = io.BytesIO()
    picture.quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE).save(data, format="png", dpi=(DPI, DPI))
    return write_atomically(path, data.getvalue())


def text_width(text: str, size: float) -> float:
    """Return the width of a text of so many points, inches."""
    font = get_font(findfont(FONT))
    font.set_size(size, DPI)
    font.set_text(text)
    return float(font.get_width_height()[0] / 64 / DPI)


@lru_cache(maxsize=1)
def _signs() -> frozenset[int]:
    """The code points that matplotlib's own font can draw."""
    return frozenset(get_font(findfont(FONT)).get_charmap())
