"""The frame of a report: one file with its style, its script and its pictures, which asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from yolo.core.files import write_atomically
from yolo.training.report.markup import Html, escape, join, tag
from yolo.training.report.payload import script_data
from yolo.training.report.sections import Section


def write_page(
    path: str | Path,
    title: str,
    lead: object,
    sections: Sequence[Section],
    data: Mapping[str, Any],
    *,
    notes: object = "",
) -> Path:
    """Write a page, atomically.

    Args:
        path: of the file.
        title: heading.
        lead: the line below it.
        sections: in order; each gets an entry in the contents.
        data: for the script.
        notes: what must be known before the numbers are read.
    """
    style, script = _asset("report.css"), _asset("report.js")
    contents = join(tag("li", tag("a", part.title, href=f"#{part.id_}")) for part in sections)
    page = Template(_asset("report.html")).substitute(
        title=escape(title),
        lead=escape(lead),
        notes=escape(notes),
        contents=contents,
        sections=join((part.html() for part in sections), "\n"),
        data=script_data(data),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )
    return write_atomically(path, page.encode("utf-8", "replace"))


def warning_box(lines: Sequence[str]) -> Html:
    """Set lines off from the rest."""
    return tag("ul", *(tag("li", line) for line in lines), class_="warning") if lines else Html("")


def _asset(name: str) -> str:
    return (resources.files("yolo.training.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What the page's own policy allows: exactly this text, see Content Security Policy Level 3, section 2.3.1."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
