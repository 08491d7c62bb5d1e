"""Line charts as inline SVG, drawn here so that they are there without a script and on paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from yolo.training.metrics.flat import Floats
from yolo.training.report.markup import Html, join, tag

WIDTH, HEIGHT = 480, 312
_Number = TypeVar("_Number", float, Floats)
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 10, 40  # margins around the plotted square from 0 to 1


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a chart.

    Attributes:
        name: in the read-out and the legend.
        x: float64 ``[K]``, 0 to 1, ascending.
        y: float64 ``[K]``, 0 to 1; NaN where there is none.
        style: class of the style sheet.
    """

    name: str
    x: Floats
    y: Floats
    style: str


def chart(
    id_: str,
    label: str,
    x_title: str,
    y_title: str,
    lines: Sequence[Line],
    *,
    below: Iterable[Html] = (),
    above: Iterable[Html] = (),
) -> Html:
    """Draw lines in a square from 0 to 1.

    Args:
        id_: by which the script finds its data.
        label: what the chart shows, for those who do not see it.
        x_title: below the horizontal axis.
        y_title: beside the vertical axis.
        lines: the last one on top.
        below: what else is drawn, under the lines.
        above: what is drawn over them.
    """
    return tag(
        "svg",
        _axes(x_title, y_title),
        *below,
        *(tag("polyline", class_=f"line {line.style}", points=_points(line.x, line.y)) for line in lines),
        *above,
        tag("g", class_="pointer"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=label,
        class_="chart",
        data_chart=id_,
    )


def at(x: _Number, y: _Number) -> tuple[_Number, _Number]:
    """Return the pixels of a point, or of many, of the unit square."""
    return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)


def marker(x: float, text: str) -> Html:
    """Draw a vertical line with a word beside it, on the side that has room."""
    left, top = at(x, 1)
    side = ("end", -5) if x > 0.7 else ("start", 5)
    return tag(
        "g",
        tag("line", x1=_px(left), x2=_px(left), y1=_px(top), y2=_px(at(0, 0)[1]), class_="marker"),
        tag("text", text, x=_px(left + side[1]), y=_px(top + 11), text_anchor=side[0], class_="small"),
    )


def dot(x: float, y: float, style: str) -> Html:
    """Draw a point."""
    left, top = at(x, y)
    return tag("circle", cx=_px(left), cy=_px(top), r=4, class_=style)


def bar(share: float, *, style: str = "fill") -> Html:
    """Draw a horizontal bar that fills a share of a cell."""
    width = round(100 * float(np.clip(share, 0, 1)), 1)
    return tag(
        "svg",
        tag("rect", width=f"{width:g}", height=8, rx=1.5, class_=style),
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        class_="bar",
        aria_hidden="true",
    )


def interval(value: float, low: float, high: float, *, scale: float, clear: bool) -> Html:
    """Draw an interval around a difference, on an axis from ``-scale`` to ``scale``; coloured where it is clear."""

    def x(number: float) -> str:
        return f"{60 + 56 * float(np.clip(number / scale, -1, 1)):.1f}"

    style = ("better" if value > 0 else "worse") if clear else "open"
    return tag(
        "svg",
        tag("line", x1=60, x2=60, y1=0, y2=14, class_="zero"),
        tag("line", x1=x(low), x2=x(high), y1=7, y2=7, class_=f"span {style}"),
        tag("circle", cx=x(value), cy=7, r=3, class_=f"middle {style}"),
        viewBox="0 0 120 14",
        class_="interval",
        aria_hidden="true",
    )


def _axes(x_title: str, y_title: str) -> Html:
    parts = []
    (left, bottom), (right, top) = at(0, 0), at(1, 1)
    for tick in np.linspace(0, 1, 6):
        x, y = at(tick, tick)
        parts += [
            tag("line", x1=_px(left), x2=_px(right), y1=_px(y), y2=_px(y), class_="grid"),
            tag("text", f"{tick:.1f}", x=_px(left - 6), y=_px(y + 4), text_anchor="end"),
            tag("text", f"{tick:.1f}", x=_px(x), y=_px(bottom + 16), text_anchor="middle"),
        ]
    middle = (top + bottom) / 2
    turned = f"rotate(-90 11 {_px(middle)})"
    parts += [
        tag("text", x_title, x=_px((left + right) / 2), y=HEIGHT - 6, text_anchor="middle", class_="title"),
        tag("text", y_title, x=11, y=_px(middle), text_anchor="middle", transform=turned, class_="title"),
    ]
    return tag("g", join(parts), class_="axes", aria_hidden="true")


def _points(x: Floats, y: Floats) -> str:
    """Write the points of a line, without those in the middle of a level piece and those that are NaN."""
    known = ~np.isnan(y)
    left, top = at(x[known], y[known])
    top = np.round(top, 1)
    if len(top) > 2:
        level = np.concatenate([[False], (top[1:-1] == top[:-2]) & (top[1:-1] == top[2:]), [False]])
        left, top = left[~level], top[~level]
    return " ".join(f"{_px(a)},{_px(b)}" for a, b in zip(left, top, strict=True))


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
