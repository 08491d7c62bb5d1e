"""The repaired copy of a split in COCO format."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from yolo.core.files import write_atomically
from yolo.data.check.copies import Copy
from yolo.data.check.inspect import Inspection
from yolo.data.formats import kinds
from yolo.data.formats.coco import coco_paths
from yolo.data.formats.json_file import read_json_object
from yolo.data.labels import LabelTable

_REWRITTEN = {kinds.OVER_EDGE.name, kinds.NO_BBOX.name, kinds.BAD_AREA.name}


def repaired_coco(inspection: Inspection, split: str, folder: Path) -> list[Copy]:
    """Write the json of a split, and say which pictures to copy.

    Args:
        inspection: of the data set.
        split: to write.
        folder: of the copy: ``annotations/instances_<split>.json``, ``images/<split>``.
    """
    table = inspection.tables[split]
    source, annotations = coco_paths(inspection.config, split)
    document = read_json_object(annotations)
    images, boxes, copies = _kept(inspection, split, document, source)
    names = dict(zip(table.category_ids, table.class_names, strict=True))
    document["categories"] = [record | {"name": names[record["id"]]} for record in document["categories"]]
    document["images"], document["annotations"] = images, boxes
    write_atomically(folder / "annotations" / f"instances_{split}.json", _as_lines(document).encode())
    return [Copy(path, folder / "images" / split / name, count) for path, name, count in copies]


def _kept(
    inspection: Inspection, split: str, document: dict[str, Any], source: Path
) -> tuple[list[Any], list[Any], list[tuple[str, str, int]]]:
    """Records of images and annotations, and for each image its path, its name in the copy and its number of boxes."""
    table, locate = inspection.tables[split], inspection.reads[split].locate
    assert locate is not None
    repeated, rewritten = _marked(inspection, split)
    leave_out = inspection.leave_out.get(split, set())
    by_id = {record.get("id"): record for record in reversed(document["images"]) if _hashable(record.get("id"))}
    images, numbered, copies = [], [], []
    for index, path in enumerate(table.paths):
        if path in leave_out:
            continue
        width, height = table.size(index)
        images.append(by_id[table.image_id(index)] | {"width": width, "height": height})
        count = 0
        for box in range(int(table.offsets[index + 1] - table.offsets[index])):
            place = locate(path, box)
            assert place.entry is not None
            position = place.entry[1]
            if position in repeated:
                continue
            record = document["annotations"][position]
            if position in rewritten:
                record = _rewritten(record, table, int(table.offsets[index]) + box)
            numbered.append((position, record))
            count += 1
        copies.append((path, os.path.relpath(path, source), count))
    return images, [record for _, record in sorted(numbered, key=lambda item: item[0])], copies


def _marked(inspection: Inspection, split: str) -> tuple[set[int], set[int]]:
    """Positions of annotations that repeat another, and of those whose box or area is changed."""
    repeated, rewritten = set(), set()
    for finding in inspection.reads[split].findings:
        if finding.entry is None or finding.entry[0] != "annotations":
            continue
        if finding.kind == kinds.REPEATED_BOX.name:
            repeated.add(finding.entry[1])
        elif finding.kind in _REWRITTEN:
            rewritten.add(finding.entry[1])
    return repeated, rewritten


def _rewritten(record: dict[str, Any], table: LabelTable, row: int) -> dict[str, Any]:
    left, top, right, bottom = table.boxes[row].astype(float).tolist()
    box = [round(value, 3) for value in (left, top, right - left, bottom - top)]
    area = float(table.area[row])
    return record | {"bbox": box, "area": round(min(area, box[2] * box[3]), 3)}


def _hashable(value: object) -> bool:
    return isinstance(value, int | str)


def _as_lines(document: dict[str, Any]) -> str:
    """Json with every entry of a list on its own line, so that findings have lines to name."""
    parts = []
    for key, value in document.items():
        if isinstance(value, list) and value:
            body = "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
        else:
            body = json.dumps(value, ensure_ascii=False)
        parts.append(f"{json.dumps(key, ensure_ascii=False)}: {body}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
