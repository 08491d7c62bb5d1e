"""The repaired copy of a split in YOLO format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from yolo.core.files import write_atomically
from yolo.data.check.copies import Copy, Names
from yolo.data.check.inspect import Inspection
from yolo.data.encryption.names import image_stem
from yolo.data.formats.report import DataError, Report
from yolo.data.formats.textfile import read_bytes
from yolo.data.formats.yolo_labels import LARGEST
from yolo.data.formats.yolo_layout import find_data_yaml, list_split, split_sources
from yolo.data.formats.yolo_lines import EDGE, Row, numbered_rows, split_lines
from yolo.data.loaders import open_loader


def repaired_yolo(inspection: Inspection, split: str, folder: Path) -> list[Copy]:
    """Write labels and ``data.yaml`` of a split, and say which pictures to copy.

    Args:
        inspection: of the data set.
        split: to write.
        folder: of the copy: ``data.yaml``, ``images/<split>``, ``labels/<split>``.
    """
    config, table = inspection.config, inspection.tables[split]
    silent = Report(config.root, collect=True)
    extra = open_loader(config.image_loader, encryption_key=config.encryption_key).extra_suffixes
    description = find_data_yaml(config, silent)
    listing = list_split(config, split, description, silent, extra=extra)
    labels = dict(zip(listing.images, listing.labels, strict=True))
    names = Names(split_sources(config, split, description).folders, extra)
    leave_out = inspection.leave_out.get(split, set())
    copies = []
    for path in table.paths:
        if path in leave_out:
            continue
        name = names.place(path)
        lines = _repaired_lines(labels[path], table.class_names)
        text = "".join(f"{line}\n" for line in lines)
        write_atomically(folder / "labels" / split / f"{image_stem(name, extra)}.txt", text.encode())
        copies.append(Copy(path, folder / "images" / split / name, len(lines)))
    _write_yaml(folder, list(inspection.tables), table.class_names)
    return copies


def _write_yaml(folder: Path, splits: Sequence[str], names: Sequence[str]) -> None:
    where = {split: f"images/{split}" for split in splits}
    text = yaml.safe_dump(where, sort_keys=False) + f"nc: {len(names)}\n"
    quoted = yaml.safe_dump(
        {"names": list(names)}, default_style='"', allow_unicode=True, sort_keys=False, width=1 << 20
    )
    write_atomically(folder / "data.yaml", (text + quoted).encode())


def _repaired_lines(file: str | None, names: Sequence[str]) -> list[str]:
    """The lines of a label file that can be used, as they are written but for boxes that reach over the edge."""
    if file is None:
        return []
    try:
        data = read_bytes(file, limit=LARGEST)
        rows = numbered_rows(data, file, names, Report(file, collect=True))
        lines = split_lines(data, file)
    except DataError:  # told before: the file as a whole cannot be used
        return []
    return [_clipped(lines[number - 1].split(), row) for number, row in rows]


def _clipped(tokens: list[str], row: Row) -> str:
    centre, half = np.array(row[1:3]), np.array(row[3:5]) / 2
    if not ((centre + half > 1 + EDGE) | (centre - half < -EDGE)).any():
        return " ".join(tokens)
    label = str(int(row[0]))
    if len(tokens) > 5:
        points = np.clip([float(token) for token in tokens[1:]], 0, 1)
        return " ".join([label, *(f"{value:.10g}" for value in points)])
    low, high = np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
    return " ".join([label, *(f"{value:.10g}" for value in [*((low + high) / 2), *(high - low)])])
