"""Tables with titles: drawn on a terminal, aligned plain text everywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from rich.box import ROUNDED
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

LONGEST_NAME = 28  # columns of a class name, so that two of them fit on a line of 80
_BLANKS = "  "


@dataclass(frozen=True)
class Table:
    """A table for people.

    Attributes:
        title: above it.
        columns: names and on which side their cells stand.
        rows: cells, in the order of the columns; a cell may have several lines.
    """

    title: str
    columns: Mapping[str, Literal["left", "right"]]
    rows: Sequence[Sequence[Text]]


def is_drawn(stream: TextIO) -> bool:
    """Whether tables are drawn: on a terminal that knows Unicode and moves its cursor."""
    capable = stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
    return capable and (getattr(stream, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def show_tables(tables: Sequence[Table]) -> None:
    """Print tables on standard output; in colour unless :envvar:`NO_COLOR` is set."""
    stream = sys.stdout
    if is_drawn(stream):
        colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
        console = Console(file=stream, color_system=colours, highlight=False, markup=False, emoji=False)
        for table in tables:
            console.print(_drawn(table, console.width))
        stream.flush()
    else:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print("\n".join(plain_text(table, encoding=encoding) for table in tables), flush=True)


def plain_text(table: Table, *, encoding: str = "utf-8") -> str:
    """Return a table as lines: title, column names, rows; two blanks or more between columns.

    Args:
        table: to write.
        encoding: signs that it does not have are written as escapes.
    """
    lines = _lines(table, encoding)
    texts = [_BLANKS.join(map(_padded, line, _widths(lines), table.columns.values())).rstrip() for line in lines]
    return "\n".join([table.title, *texts, ""])


def shortened(name: str) -> str:
    """Return a class name for a table: one printable line of bounded width, both of its ends kept."""
    name = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)
    if cell_len(name) <= LONGEST_NAME:
        return name
    tail = LONGEST_NAME // 3
    return f"{set_cell_size(name, LONGEST_NAME - tail - 3)}...{set_cell_size(name[::-1], tail)[::-1]}"


def _lines(table: Table, encoding: str = "utf-8") -> list[list[str]]:
    """Column names and rows as lines, in each of which every column has a text."""
    rows = [list(table.columns), *([cell.plain for cell in row] for row in table.rows)]
    return [line for row in rows for line in _split([_encodable(cell, encoding) for cell in row])]


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]


def _encodable(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _split(row: Sequence[str]) -> list[list[str]]:
    cells = [cell.split("\n") for cell in row]
    return [[cell[line] if line < len(cell) else "" for cell in cells] for line in range(max(map(len, cells)))]


def _padded(text: str, width: int, side: str) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if side == "right" else text + blanks


def _drawn(table: Table, room: int) -> RichTable:
    """A table of so many columns at most; nothing is cut off, and a single row that is too wide becomes a column."""
    widths = _widths(_lines(table))
    turned = len(table.rows) == 1 and sum(widths) + 3 * len(widths) + 1 > room
    drawn = RichTable(
        title=Text(table.title, style="bold"), box=ROUNDED, header_style="bold", show_header=not turned,
        show_lines=turned and any("\n" in cell.plain for cell in table.rows[0]),
    )  # fmt: skip
    if turned:
        drawn.add_column(style="bold", overflow="fold")
        drawn.add_column(justify=next(iter(table.columns.values())), overflow="fold")
        for name, cell in zip(table.columns, table.rows[0], strict=True):
            drawn.add_row(Text(name), cell)
        return drawn
    for name, side in table.columns.items():
        drawn.add_column(Text(name), justify=side, overflow="fold")
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
