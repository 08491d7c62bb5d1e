"""HTML that cannot be broken by what is put into it: whatever is not :class:`Html` is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_VOID = frozenset({"br", "circle", "image", "input", "line", "path", "polyline", "rect"})
_LONG = 30  # rows; a longer table scrolls in itself
NOTHING = "\N{EN DASH}"  # where there is nothing to measure


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Return HTML as it is, and anything else as text with its special characters escaped."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Build an element.

    Args:
        name: of the element.
        children: text, which is escaped, or elements.
        attributes: ``class_`` becomes ``class``, ``data_x`` becomes ``data-x``; one that is None or False is left out,
            one that is True has no value.
    """
    text = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{text}/>")
    return Html(f"<{name}{text}>{join(children)}</{name}>")


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Put elements and text one after the other."""
    return Html(separator.join(escape(part) for part in parts))


def number(value: float, digits: int = 3) -> str:
    """Write a figure; a dash for NaN and for COCO's -1, which mean that there is nothing to measure."""
    return NOTHING if math.isnan(value) or value < 0 else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign, zero without."""
    if math.isnan(value):
        return NOTHING
    text = f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return f"{0:.{digits}f}" if not text.strip("+\N{MINUS SIGN}0.") else text


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: in the head.
        numeric: of figures, which are set to the right and sorted by value.
        hint: shown when one points at the head.
        plain: cannot be sorted by, such as a column of bars.
    """

    title: str
    numeric: bool = True
    hint: str | None = None
    plain: bool = False


def table(
    caption: object,
    columns: Sequence[Column],
    rows: Iterable[Sequence[object]],
    *,
    id_: str | None = None,
    sortable: bool = True,
    filterable: bool = False,
) -> Html:
    """Build a table whose first column names the rows; the script makes it sortable and gives it a filter."""
    head = join(
        tag("th", c.title, scope="col", class_="num" if c.numeric else None, title=c.hint, data_plain=c.plain or None)
        for c in columns
    )
    lines = [tag("tr", _cell(row[0], columns[0], first=True), *map(_cell, row[1:], columns[1:])) for row in rows]
    whole = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", head)),
        "\n",
        tag("tbody", join(lines, "\n")),
        id_=id_,
        class_="sortable" if sortable else None,
        data_filter=filterable,
    )
    style = "scroll long" if len(lines) > _LONG else "scroll"
    return tag("div", whole, class_=style, role="group", tabindex="0", aria_label=f"Table: {columns[0].title}")


def _cell(value: object, column: Column, first: bool = False) -> Html:
    style = "num" if column.numeric else None
    return tag("th", value, scope="row") if first else tag("td", value, class_=style)
