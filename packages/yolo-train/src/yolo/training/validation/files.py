"""The files of a measurement: numbers, detections, truth, and a table of the classes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yolo.core.files import write_atomically
from yolo.data.labels import LabelTable
from yolo.training.metrics import Evaluation


def write_results(
    folder: Path,
    stem: str,
    *,
    evaluation: Evaluation,
    detections: list[dict[str, Any]],
    table: LabelTable,
    root: Path,
    facts: Mapping[str, Any],
    further: Mapping[str, Any],
) -> list[Path]:
    """Write ``<stem>_metrics.json``, ``_detections.json``, ``_truth.json`` and ``_per_class.csv``.

    pycocotools on truth and detections gives the numbers of the metrics. Those are written last, so that whoever finds
    new ones finds all new.

    Args:
        folder: made as needed.
        stem: first part of all names.
        evaluation: the numbers.
        detections: in COCO's result format.
        table: labels of the evaluated images.
        root: of the data; names of images are relative to it where they lie below.
        facts: what was measured on what, for the metrics file.
        further: names of other files of this measurement by kind, as they are to be found from ``folder``.

    Returns:
        What was written.
    """
    names = {
        "detections": f"{stem}_detections.json",
        "truth": f"{stem}_truth.json",
        "per_class": f"{stem}_per_class.csv",
    }
    metrics = {**evaluation.as_dict(), **facts, "files": {**names, **further}}
    contents = {
        names["detections"]: json.dumps(detections).encode(),
        names["truth"]: json.dumps(ground_truth(table, root), ensure_ascii=False).encode(),
        names["per_class"]: class_table(evaluation).encode(),
        f"{stem}_metrics.json": _readable(metrics).encode(),
    }
    return [write_atomically(folder / name, content) for name, content in contents.items()]


def ground_truth(table: LabelTable, root: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the labels in COCO's json layout, with names of images relative to ``root`` where they lie below it.

    An image whose id in the data set is no number has that id as ``source_id``.
    """
    truth = table.coco_ground_truth()
    for index, image in enumerate(truth["images"]):
        image["file_name"] = _relative(image["file_name"], root)
        if table.foreign_ids is not None:
            image["source_id"] = table.image_id(index)
    return truth


def class_table(evaluation: Evaluation) -> str:
    """Return the numbers of every class as CSV; a number that does not exist is left empty."""
    counts = evaluation.counts
    columns = {
        "class": evaluation.class_names,
        **{name: evaluation.per_class[:, i] for i, name in enumerate(("AP", "AP50", "AP75"))},
        "precision": counts.precision(),
        "recall": counts.recall(),
        "f1": counts.f1(),
        "objects": counts.truths,
        "true_positives": counts.true_positives,
        "false_positives": counts.false_positives,
        "missed": counts.truths - counts.true_positives,
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def folder_of(table: LabelTable, root: Path) -> Path:
    """Return ``root`` if images lie below it, else the folder that all of them have in common."""
    prefix = f"{root}{os.sep}"
    paths = list(table.paths)
    if not paths or any(path.startswith(prefix) for path in paths):
        return root
    return Path(os.path.commonpath([str(Path(path).parent) for path in paths]))


def _readable(content: Mapping[str, Any]) -> str:
    """Return JSON for people: lists of numbers, such as the rows of a matrix, on one line each."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return re.sub(r"\[\n[^\[\]{}\"]*\]", lambda found: f"[{' '.join(found[0][1:-1].split())}]", text) + "\n"


def _relative(path: str, root: Path) -> str:
    below = path.removeprefix(f"{root}{os.sep}")
    return below.replace(os.sep, "/") if below != path else path


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.6f}"
    return value
