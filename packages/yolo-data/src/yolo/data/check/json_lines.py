"""Lines of the entries of a json: Python's parser tells none, so the text is gone through once more."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from json import JSONDecoder
from pathlib import Path

from yolo.core.errors import YoloError
from yolo.data.formats.json_file import LARGEST
from yolo.data.formats.report import Finding
from yolo.data.formats.textfile import decode, read_bytes

_BLANK = re.compile(r"[ \t\r\n]*")


def with_lines(findings: list[Finding]) -> list[Finding]:
    """Give every finding that stands at an entry of a json its line."""
    wanted: dict[str, dict[str, set[int]]] = {}
    for finding in findings:
        if finding.entry is not None and finding.line is None:
            key, position = finding.entry
            wanted.setdefault(finding.file, {}).setdefault(key, set()).add(position)
    lines = {file: _lines(file, keys) for file, keys in wanted.items()}
    return [
        finding
        if finding.entry is None or finding.line is not None
        else replace(finding, line=lines[finding.file].get(finding.entry))
        for finding in findings
    ]


def _lines(file: str, wanted: Mapping[str, Collection[int]]) -> dict[tuple[str, int], int]:
    try:
        text = decode(read_bytes(Path(file), limit=LARGEST), file)
        return entry_lines(text, wanted)
    except (YoloError, ValueError, IndexError, RecursionError):  # changed meanwhile; the message says enough
        return {}


def entry_lines(text: str, wanted: Mapping[str, Collection[int]]) -> dict[tuple[str, int], int]:
    """Find the lines at which entries of top-level lists begin.

    Args:
        text: a json object.
        wanted: positions in the list, by its key.

    Returns:
        Line, from 1, by key and position.
    """
    parse = JSONDecoder().raw_decode
    lines: dict[tuple[str, int], int] = {}
    line, counted = 1, 0
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] == '"':
        key, at = parse(text, at)
        at = _skip(text, _skip(text, at) + 1)
        positions = wanted.get(key, ())
        if positions and text[at] == "[":
            at = _skip(text, at + 1)
            position, last = 0, max(positions)
            while text[at] != "]":
                if position in positions:
                    line += text.count("\n", counted, at)
                    counted = at
                    lines[key, position] = line
                if position == last and len(wanted) == 1:
                    return lines
                position += 1
                at = _skip(text, parse(text, at)[1])
                if text[at] == ",":
                    at = _skip(text, at + 1)
            at += 1
        else:
            at = parse(text, at)[1]
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return lines


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()
