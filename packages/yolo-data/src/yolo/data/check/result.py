"""What a check returns: facts and findings."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from yolo.data.formats.report import Finding, show
from yolo.data.labels import LabelTable

#: Sides of the squares, in pixels of the file, that part small, medium and large boxes (the COCO evaluation's).
SMALL, MEDIUM = 32, 96
_PERCENTILES = (5, 50, 95)
_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class SplitFacts:
    """Counts of one split, of what is left after the repairs that training makes.

    Attributes:
        images: number of them.
        background: images without a box.
        boxes: to train on.
        crowds: regions that are ignored.
        classes: per class: name, number of boxes, number of images that show it.
        sizes: number of small (below 32 x 32 pixels), medium and large (from 96 x 96) boxes.
        box_width: 5th, 50th and 95th percentile, pixels of the file.
        box_height: likewise.
        image_width: least, median and largest, pixels.
        image_height: likewise.
        most_boxes: of one image.
    """

    images: int
    background: int
    boxes: int
    crowds: int
    classes: tuple[tuple[str, int, int], ...]
    sizes: dict[str, int]
    box_width: tuple[float, float, float]
    box_height: tuple[float, float, float]
    image_width: tuple[int, int, int]
    image_height: tuple[int, int, int]
    most_boxes: int


@dataclass(frozen=True)
class DatasetReport:
    """The result of a check.

    Attributes:
        root: of the data set.
        format: of the data set.
        splits: facts by split; a split that cannot be read at all is missing here and has a finding.
        findings: errors first, then warnings, then information; by file and line within those.
        pictures_read: whether every picture was decoded and compared with the others.
    """

    root: str
    format: str
    splits: dict[str, SplitFacts]
    findings: tuple[Finding, ...]
    pictures_read: bool

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each severity."""
        counted: Counter[str] = Counter(finding.severity for finding in self.findings)
        return {severity: counted[severity] for severity in _SEVERITIES}

    @property
    def exit_code(self) -> int:
        """1 when there is an error, else 0."""
        return int(self.counts["error"] > 0)

    def as_dict(self) -> dict[str, Any]:
        """The report for ``--json``. Paths that are not valid text are written with escapes."""
        splits = {}
        for name, facts in self.splits.items():
            keys = ("name", "boxes", "images")
            splits[name] = asdict(facts) | {"classes": [dict(zip(keys, row, strict=True)) for row in facts.classes]}
        return {
            "root": self.root,
            "format": self.format,
            "pictures_read": self.pictures_read,
            "counts": self.counts,
            "splits": splits,
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "file": _text(finding.file),
                    "line": finding.line,
                    "message": _text(finding.message),
                }
                for finding in self.findings
            ],
        }


def facts_of(table: LabelTable) -> SplitFacts:
    """Count what a table holds."""
    owner = np.repeat(np.arange(len(table)), np.diff(table.offsets))[~table.crowd]
    labels = table.labels[~table.crowd]
    limit = np.tile(table.sizes[owner], 2)
    boxes = np.clip(table.boxes[~table.crowd], 0, limit)
    wh = boxes[:, 2:] - boxes[:, :2]
    area = wh.prod(axis=1)
    number = table.num_classes
    shown = np.unique(owner * number + labels) % number
    per_class = zip(
        table.class_names,
        np.bincount(labels, minlength=number).tolist(),
        np.bincount(shown, minlength=number).tolist(),
        strict=True,
    )
    per_image = np.bincount(owner, minlength=len(table))
    small, large = int((area < SMALL**2).sum()), int((area >= MEDIUM**2).sum())
    return SplitFacts(
        images=len(table),
        background=int((per_image == 0).sum()),
        boxes=len(boxes),
        crowds=int(table.crowd.sum()),
        classes=tuple(per_class),
        sizes={"small": small, "medium": len(boxes) - small - large, "large": large},
        box_width=_percentiles(wh[:, 0]),
        box_height=_percentiles(wh[:, 1]),
        image_width=_range(table.sizes[:, 0]),
        image_height=_range(table.sizes[:, 1]),
        most_boxes=int(per_image.max(initial=0)),
    )


def _percentiles(values: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, _PERCENTILES).tolist() if len(values) else (0.0, 0.0, 0.0)
    return round(low, 1), round(middle, 1), round(high, 1)


def _range(values: np.ndarray) -> tuple[int, int, int]:
    if not len(values):
        return 0, 0, 0
    return int(values.min()), int(np.median(values)), int(values.max())


def _text(value: str) -> str:
    return value if value.isprintable() else show(value)
