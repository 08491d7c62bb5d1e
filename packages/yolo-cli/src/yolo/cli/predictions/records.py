"""Results as text: JSON, CSV, COCO's result format, and YOLO label files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from yolo.core.files import write_atomically
from yolo.core.predictor import Prediction

from .names import Unique
from .sinks import Folder, PendingFile

JSON_NAME, CSV_NAME, COCO_NAME, LABELS = "predictions.json", "predictions.csv", "coco_predictions.json", "labels"


class _JsonList:
    """A list of JSON values, written one by one."""

    label: str
    name: str

    def __init__(self, folder: Folder) -> None:
        self._file = PendingFile(folder, self.name)
        self._count = 0

    def append(self, value: object) -> None:
        self._file.write((",\n" if self._count else "[\n") + json.dumps(value))
        self._count += 1

    def close(self, *, complete: bool) -> None:
        """End; see :class:`Sink`."""
        self._file.close(complete=complete, last="\n]\n" if self._count else "[]\n")

    def written(self) -> str | None:
        """Say where it is."""
        return f"{self.label}: {self._file.path}"


class JsonFile(_JsonList):
    """``predictions.json``: one entry a picture."""

    label, name = "JSON", JSON_NAME

    def add(self, prediction: Prediction, name: str) -> None:
        """Take one picture."""
        self.append(prediction.detections.to_dict(image=name))


class CocoFile(_JsonList):
    """``coco_predictions.json``: COCO's result format.

    The id of an image is the number that its file is called by (``000000123.jpg``), else, and where another one has
    that number, its name.

    Args:
        folder: where it goes.
        category_ids: of each class; default: the class index.
    """

    label, name = "COCO results", COCO_NAME

    def __init__(self, folder: Folder, category_ids: Sequence[int] | None) -> None:
        super().__init__(folder)
        self._category_ids = category_ids
        self._numbers: set[int] = set()

    def add(self, prediction: Prediction, name: str) -> None:
        """Take one picture."""
        stem = PurePosixPath(name).stem
        image_id: int | str = int(stem) if stem.isascii() and stem.isdecimal() and len(stem) < 19 else name
        if isinstance(image_id, int):
            image_id = name if image_id in self._numbers else image_id
            self._numbers.add(int(stem))
        for record in prediction.detections.to_coco(image_id, category_ids=self._category_ids):
            self.append(record)


class CsvFile:
    """``predictions.csv``: one line a detection."""

    columns = ("image", "frame", "label", "name", "score", "x1", "y1", "x2", "y2")

    def __init__(self, folder: Folder) -> None:
        self._file = PendingFile(folder, CSV_NAME)
        self._begun = False

    def add(self, prediction: Prediction, name: str) -> None:
        """Take one picture."""
        found = prediction.detections
        frame = "" if found.frame is None else found.frame
        self._file.write(
            self._text([name, frame, d["label"], d["name"], d["score"], *d["box"]] for d in found.to_records())
        )

    def close(self, *, complete: bool) -> None:
        """End."""
        self._file.close(complete=complete, last=self._text([]))

    def written(self) -> str | None:
        """Say where it is."""
        return f"CSV: {self._file.path}"

    def _text(self, rows: Iterable[Sequence[object]]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._begun:
            writer.writerow(self.columns)
            self._begun = True
        writer.writerows(rows)
        return text.getvalue()


class LabelFiles:
    """``labels/<name>.txt``: class, centre x, centre y, width, height as shares of the picture, one line a detection.

    A picture in which nothing was found gets an empty file.

    Args:
        folder: where they go.
        with_scores: add the score as the sixth number.
    """

    def __init__(self, folder: Folder, *, with_scores: bool) -> None:
        self._folder, self._with_scores = folder, with_scores
        self._unique = Unique()
        self._count = 0

    def add(self, prediction: Prediction, name: str) -> None:
        """Write one file."""
        found = prediction.detections
        width, height = found.size
        lines = []
        for label, (x1, y1, x2, y2), score in zip(
            found.labels.tolist(), found.boxes.tolist(), found.scores.tolist(), strict=True
        ):
            values = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
            numbers = [*values, score] if self._with_scores else [*values]
            lines.append(f"{label} {' '.join(f'{number:.6f}' for number in numbers)}\n")
        stem = str(PurePosixPath(name).with_suffix(""))
        if found.frame is None:  # names of frames are unique
            stem = self._unique(stem, name)  # a.jpg and a.png
        self._count += 1
        write_atomically(self._folder() / LABELS / f"{stem}.txt", "".join(lines).encode())

    def close(self, *, complete: bool) -> None:
        """Nothing is open."""

    def written(self) -> str | None:
        """Say where they are."""
        return f"Labels: {self._folder() / LABELS}" if self._count else None
