"""``yolo data check``: every finding with file and line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.data.check import DatasetReport, Finding, check_dataset
from yolo.data.check.compare import warn_about_splits
from yolo.data.check.json_lines import entry_lines
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.formats.sizes import read_sizes
from yolo.data.loaders import DefaultImageLoader


def picture(path: Path, number: int, size: tuple[int, int] = (80, 60), **options: Any) -> None:
    """A picture unlike those of other numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(path, **options)


def label(path: Path, text: str = "0 0.5 0.5 0.25 0.5\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training pictures and one to validate on, all in order."""
    root = tmp_path / "set"
    for number, split in enumerate(("train", "train", "val")):
        picture(root / f"images/{split}/{number}.jpg", number)
        label(root / f"labels/{split}/{number}.txt")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [x, y]\n")
    return root


def check(root: Path, **keys: Any) -> DatasetReport:
    return check_dataset(DataConfig(root=str(root), format="yolo", num_workers=0, **keys))


def told(report: DatasetReport, *, base: Path, severity: str | None = None) -> list[tuple[str, str, int | None]]:
    found = [f for f in report.findings if severity in (None, f.severity) and f.kind != "empty-class"]
    return sorted((f.kind, f.file.replace(f"{base}/", ""), f.line) for f in found)


def test_a_sound_data_set_has_no_findings(root: Path) -> None:
    report = check(root)
    assert told(report, base=root) == []
    assert report.exit_code == 0
    facts = report.splits["train"]
    assert (facts.images, facts.boxes, facts.background) == (2, 2, 0)
    assert facts.classes == (("x", 2, 2), ("y", 0, 0))
    assert facts.box_width == (20.0, 20.0, 20.0)
    assert facts.sizes == {"small": 2, "medium": 0, "large": 0}
    assert list(report.splits) == ["train", "val"]


def test_every_bad_line_is_found_not_only_the_first(root: Path) -> None:
    text = "0 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n\n0 0.5 0.5 0.1\n0 30 20 5 5\n0 0.5 0.5 0 0.1\n0 0.5 0.5 0.1 0.1\n"
    text += "1 0.98 0.5 0.1 0.1\n0 0.1 0.1 0.2 0.1 0.2 0.3\n0 0.5 0.5 -0.1 0.1\n0 nan 0.5 0.1 0.1\n"
    label(root / "labels/train/0.txt", text)
    (root / "labels/val/2.txt").write_bytes(b"0 0.5 0.5 0.1 0.1\n\xff\n")
    at = "labels/train/0.txt"
    assert told(check(root), base=root) == [
        ("box-over-edge", at, 8),
        ("class-range", at, 2),
        ("coordinate-range", at, 5),
        ("duplicate-box", at, 7),
        ("empty-box", at, 6),
        ("malformed-line", at, 4),
        ("malformed-line", at, 11),
        ("negative-size", at, 10),
        ("no-boxes", str(root), None),
        ("not-utf8", "labels/val/2.txt", 2),
        ("polygon", at, 9),
    ]


def test_missing_orphan_and_unreadable_files(root: Path) -> None:
    picture(root / "images/train/unlabelled.png", 5)
    label(root / "labels/train/alone.txt")
    whole = (root / "images/train/0.jpg").read_bytes()
    (root / "images/train/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "images/train/empty.jpg").touch()
    label(root / "labels/train/cut.txt")
    label(root / "labels/train/empty.txt")
    report = check(root)
    assert told(report, base=root) == [
        ("missing-label", "images/train/unlabelled.png", None),
        ("orphan-label", "labels/train/alone.txt", None),
        ("unreadable-image", "images/train/cut.jpg", None),
        ("unreadable-image", "images/train/empty.jpg", None),
    ]
    assert report.exit_code == 1
    assert report.splits["train"].images == 3


def test_list_files(root: Path) -> None:
    (root / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [x]\n")
    (root / "train.txt").write_text("images/train/0.jpg\nimages/train/gone.jpg\nimages/train/0.jpg\n")
    (root / "val.txt").write_text("images/val/2.jpg\nimages/train/0.jpg\n")
    found = told(check(root), base=root)
    assert ("missing-image", "train.txt", 2) in found
    assert ("listed-twice", "train.txt", 3) in found
    assert ("image-in-two-splits", "images/train/0.jpg", None) in found


def test_images_that_no_json_or_list_names(synthetic_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(synthetic_data, root)
    picture(root / "images/train/spare.jpg", 1)
    report = check_dataset(DataConfig(root=str(root)), images=False)
    assert told(report, base=root) == [("orphan-image", "images/train/spare.jpg", None)]
    assert not check_dataset(DataConfig(root=str(root)), ["val"], images=False).findings


def test_coco_findings_stand_at_their_lines(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "images/train" / name, ord(name[0]), (40, 30))
    boxes = [[1, 2, 3, 4], [1, 2, -3, 4], [100, 0, 5, 5], [1, 2, 3, 4], [30, 0, 20, 5]]
    document = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 2, "file_name": "b.png", "width": 4, "height": 3},
            {"id": 3, "file_name": "gone.png", "width": 4, "height": 3},
        ],
        "annotations": [
            *({"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes, start=10)),
            {"id": 20, "image_id": 9, "category_id": 1, "bbox": [1, 1, 1, 1]},
            {"id": 21, "image_id": 2, "category_id": 8, "bbox": [1, 1, 1, 1]},
            {"id": 22, "image_id": 3, "category_id": 1, "bbox": [1, 1, 1, 1]},
            {"id": 10, "image_id": 2, "category_id": 1, "bbox": [5, 5, 6, 6]},
        ],
        "categories": [{"id": 1, "name": "x"}],
    }
    text = json.dumps(document, indent=1)
    path = tmp_path / "annotations/instances_train.json"
    path.parent.mkdir()
    path.write_text(text)
    report = check_dataset(DataConfig(root=str(tmp_path)), ["train"])
    found = {(f.kind, f.line) for f in report.findings}
    lines = text.splitlines()

    def line(key: str, number: int, *, last: bool = False) -> int:  # the entry begins one line above its id
        start = lines.index(f' "{key}": [')
        at = [i for i in range(start, len(lines)) if lines[i] == f'   "id": {number},']
        return at[-1] if last else at[0]

    assert found == {
        ("negative-size", line("annotations", 11)),
        ("box-outside", line("annotations", 12)),
        ("duplicate-box", line("annotations", 13)),
        ("box-over-edge", line("annotations", 14)),
        ("unknown-image", line("annotations", 20)),
        ("unknown-category", line("annotations", 21)),
        ("duplicate-id", line("annotations", 10, last=True)),
        ("wrong-size", line("images", 2)),
        ("missing-image", line("images", 3)),
    }
    assert report.splits["train"].boxes == 3


@pytest.mark.parametrize("indent", [None, 2])
def test_lines_of_json_entries(indent: int | None) -> None:
    value = {"b": [[1, {"x": "]}\n,"}], "two", 3], 'a"[': {"b": [0]}, "c": [], "d": [1, {"e": None}]}
    text = json.dumps(value, indent=indent)
    lines = entry_lines(text, {"b": {0, 2}, "d": {1}, "c": {5}, "none": {1}})
    assert set(lines) == {("b", 0), ("b", 2), ("d", 1)}
    for (key, position), line in lines.items():
        start = json.dumps(value[key][position], indent=indent).splitlines()[0]
        assert start in text.splitlines()[line - 1], key


def test_odd_boxes_are_told_with_their_lines(root: Path) -> None:
    label(
        root / "labels/train/1.txt",
        "\n1 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n1 0.501 0.5 0.5 0.5\n0 0.9 0.9 0.001 0.1\n",
    )
    at = "labels/train/1.txt"
    report = check(root)
    assert told(report, base=root) == [("nearly-same-box", at, 4), ("tiny-box", at, 5), ("two-classes", at, 3)]
    assert "line 2" in next(f.message for f in report.findings if f.kind == "two-classes")


def test_different_classes_and_no_boxes(root: Path) -> None:
    train = load_labels(DataConfig(root=str(root), format="yolo"), "train")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [x, z]\n")
    val = load_labels(DataConfig(root=str(root), format="yolo"), "val")
    with pytest.raises(YoloError, match=r"set: train and val: class 1 is 'y' in one split and 'z' in the other"):
        warn_about_splits({"train": train, "val": val}, "set")
    for path in (root / "labels/train").iterdir():
        path.write_text("")
    empty = load_labels(DataConfig(root=str(root), format="yolo"), "train")
    with pytest.raises(YoloError, match="not one train image has a box"):
        warn_about_splits({"train": empty, "val": val}, "set")
    assert "nothing-to-learn" in {finding.kind for finding in check(root).findings}


def test_a_training_warns_once_of_images_in_both_splits(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [x, y]\n")
    config = DataConfig(root=str(root), format="yolo")
    tables = {split: load_labels(config, split) for split in ("train", "val")}
    warn_about_splits(tables, str(root))
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["the file is in train and in val"]
    assert "(1 more like this)" in caplog.text


def test_unknown_splits_and_counts_that_differ(root: Path) -> None:
    with pytest.raises(UsageError, match="no split 'valid'"):
        check_dataset(DataConfig(root=str(root), format="yolo"), ["valid"])
    report = check(root, num_classes=5)
    assert "data.num_classes is 5, but the data has 2" in report.findings[0].message
    report = check_dataset(DataConfig(root=str(root / "nowhere"), format="yolo"))
    assert report.exit_code == 1 and "does not exist" in report.findings[0].message


def test_whole_files_are_not_decoded_before_a_training(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = DefaultImageLoader()
    picture(root / "a.png", 1)
    (root / "b.jpg").write_bytes((root / "images/train/0.jpg").read_bytes() + b"camera notes" * 5000)
    picture(root / "c.jpg", 2, (2000, 1500), quality=95)  # longer than the part that is read
    calls: list[str] = []
    monkeypatch.setattr(DefaultImageLoader, "__call__", lambda self, path: calls.append(path))
    read_sizes([str(root / name) for name in ("a.png", "b.jpg", "c.jpg")], loader)
    assert calls == []


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
@pytest.mark.parametrize("left", [0.3, 0.9])
def test_cut_files_are_refused_before_a_training(tmp_path: Path, name: str, left: float) -> None:
    picture(tmp_path / name, 1, (400, 300))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * left)])
    with pytest.raises(YoloError, match=rf"{name}.*remove or replace it"):
        read_sizes([str(tmp_path / name)], DefaultImageLoader())


def test_formats_of_plugins_are_read_as_in_training(synthetic_data: Path) -> None:
    report = check_dataset(DataConfig(root=str(synthetic_data), format="coco"), images=False)
    assert [finding for finding in report.findings if finding.severity != "info"] == []
    with pytest.raises(UsageError, match="nope"):
        check_dataset(DataConfig(root=str(synthetic_data), format="nope"))


def test_findings_are_json(root: Path) -> None:
    (root / "images/train/odd\nname.jpg").touch()
    label(root / "labels/train/odd\nname.txt")
    value = json.loads(json.dumps(check(root).as_dict()))
    assert value["counts"] == {"error": 1, "warning": 0, "info": 1}
    assert "\n" not in value["findings"][0]["file"]
    assert value["splits"]["val"]["classes"][0] == {"name": "x", "boxes": 1, "images": 1}
    assert Finding("a", "info", "f", None, "m") in {Finding("a", "info", "f", None, "m")}
