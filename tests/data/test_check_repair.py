"""``yolo data check --fix``: the copy has nothing wrong, holds what was right, and the original stays."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from yolo.cli.main import cli
from yolo.core.errors import UsageError, YoloError
from yolo.data.check import check_dataset, copy_settings, inspect_dataset, write_repaired
from yolo.data.config import DataConfig
from yolo.data.encryption.container import encrypt
from yolo.data.encryption.keys import parse_key
from yolo.data.formats import load_labels

GOOD = "0 0.5 0.5 0.25 0.5\n"


def picture(path: Path, number: int, size: tuple[int, int] = (80, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(path)


def yolo_set(root: Path) -> DataConfig:
    """Everything that can be repaired, in a data set of YOLO files."""
    for number in range(8):
        split = "train" if number < 6 else "val"
        picture(root / f"images/{split}/sub dir/{number}.jpg", number)
        path = root / f"labels/{split}/sub dir/{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GOOD)
    images, labels = root / "images/train/sub dir", root / "labels/train/sub dir"
    text = "\ufeff0 0.5 0.5 0.2 0.2\r\n1\t0.98 0.5  0.1 0.1\r\n\r\n5 0.5 0.5 0.1 0.1\r\nwords\r\n0 0.5 0.5 0.2 0.2\r\n"
    (labels / "0.txt").write_bytes((text + "1 0.1 0.1 -0.05 0.1 0.2 0.3\r\n1 0.2 0.2 0 0.1\r\n").encode())
    (labels / "1.txt").unlink()
    (labels / "2.txt").rename(labels / "2.TXT")
    picture(images / "3.png", 30)  # beside 3.jpg, one label file
    (labels / "alone.txt").write_text(GOOD)
    whole = (images / "4.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[:-400])
    (labels / "cut.txt").write_text(GOOD)
    shutil.copy(images / "5.jpg", images / "5 again.jpg")
    (labels / "5 again.txt").write_text(GOOD)
    shutil.copy(images / "4.jpg", root / "images/val/leak.jpg")
    (root / "labels/val/leak.txt").write_text(GOOD)
    (root / "data.yaml").write_text(
        "train: [images/train, images/train]\nval: images/val\nnames: {'0': yes, '1': '  b '}\n"
    )
    return DataConfig(root=str(root), format="yolo", num_workers=0)


def coco_set(root: Path) -> DataConfig:
    """The same for COCO."""
    for split in ("train", "val"):
        images: list[dict[str, Any]] = []
        for number in range(4):
            name = f"deep/{split}{number}.png"
            picture(root / "images" / split / name, number + 10 * (split == "val"), (40, 30))
            images.append({"id": f"i{number}", "file_name": name, "width": 40, "height": 30, "licence": 7})
        boxes = [{"id": i, "image_id": f"i{i % 4}", "category_id": 9, "bbox": [i, 2, 9, 8]} for i in range(8)]
        document = {
            "info": {"year": 2020},
            "images": images,
            "annotations": boxes,
            "categories": [{"id": 9, "name": " cell ", "supercategory": "s"}, {"id": 3, "name": "none"}],
        }
        if split == "train":
            images[0] |= {"width": 4, "height": 3}
            images.append({"id": "gone", "file_name": "gone.png", "width": 1, "height": 1})
            extra: list[dict[str, Any]] = [
                {"bbox": [30, 5, 20, 5], "area": 100, "segmentation": [[30, 5, 50, 5, 50, 10]]},
                {"bbox": [3, 3, 0, 4]},
                {"bbox": [1, 2, 9, 8], "image_id": "i1"},
                {"bbox": [2, 2, 3, 3], "category_id": 77},
                {"segmentation": [[1, 1, 5, 1, 5, 6]]},
                {"bbox": [2, 2, 3, 3], "image_id": "gone"},
                {"bbox": [2, 2, 3, 3], "area": -4},
                {"bbox": [0, 0, 40, 30], "iscrowd": 1, "segmentation": {"counts": [1200], "size": [30, 40]}},
            ]
            boxes += [{"id": 100 + i, "image_id": "i2", "category_id": 9} | item for i, item in enumerate(extra)]
        path = root / f"annotations/instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
    return DataConfig(root=str(root), num_workers=0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def digest(root: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        found.update(
            str(path).encode() + (path.read_bytes() if path.is_file() else b"") + str(path.stat().st_mtime_ns).encode()
        )
    return found.hexdigest()


@pytest.mark.parametrize("make", [yolo_set, coco_set])
def test_a_check_of_the_copy_finds_nothing(make: Callable[[Path], DataConfig], tmp_path: Path) -> None:
    config = make(tmp_path / "set")
    before = digest(tmp_path / "set")
    inspection = inspect_dataset(config)
    assert inspection.report.exit_code == 1
    assert len({f.kind for f in inspection.report.findings}) >= 8
    done = write_repaired(inspection, tmp_path / "copy")
    assert digest(tmp_path / "set") == before
    again = check_dataset(copy_settings(config, tmp_path / "copy"))
    assert [f for f in again.findings if f.severity != "info"] == []
    assert sum(facts.images for facts in again.splits.values()) == done.images
    assert sum(facts.boxes + facts.crowds for facts in again.splits.values()) == done.boxes
    assert names(tmp_path) == ["copy", "set"]


@pytest.mark.parametrize("make", [yolo_set, coco_set])
def test_the_copy_has_the_boxes_that_training_would_have_used(
    make: Callable[[Path], DataConfig], tmp_path: Path
) -> None:
    config = make(tmp_path / "set")
    inspection = inspect_dataset(config)
    write_repaired(inspection, tmp_path / "copy")
    for split, table in inspection.tables.items():
        copy = load_labels(copy_settings(config, tmp_path / "copy"), split)
        assert copy.class_names == table.class_names
        mine = {Path(path).read_bytes(): index for index, path in enumerate(table.paths)}
        for index, path in enumerate(copy.paths):
            here, there = copy.targets(index), table.targets(mine[Path(path).read_bytes()])
            boxes = {tuple(row) for row in np.round(there.boxes, 3).tolist()}
            assert {tuple(row) for row in np.round(here.boxes, 3).tolist()} == boxes


def test_what_is_right_stays_as_it_is_written(tmp_path: Path) -> None:
    write_repaired(inspect_dataset(yolo_set(tmp_path / "set")), tmp_path / "copy")
    lines = (tmp_path / "copy/labels/train/sub dir/0.txt").read_text().splitlines()
    assert lines == ["0 0.5 0.5 0.2 0.2", "1 0.965 0.5 0.07 0.1", "1 0.1 0.1 0 0.1 0.2 0.3"]
    assert (tmp_path / "copy/labels/train/sub dir/1.txt").read_text() == ""
    assert names(tmp_path / "copy/images/train/sub dir") == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "3_2.png",
        "5 again.jpg",
    ]  # 4 is measured on, 5 is twice
    write_repaired(inspect_dataset(coco_set(tmp_path / "coco")), tmp_path / "copy2")
    document = json.loads((tmp_path / "copy2/annotations/instances_train.json").read_text())
    assert document["info"] == {"year": 2020}
    assert document["images"][0] == {
        "id": "i0",
        "file_name": "deep/train0.png",
        "width": 40,
        "height": 30,
        "licence": 7,
    }
    assert document["categories"][0] == {"id": 9, "name": "cell", "supercategory": "s"}
    by_id = {entry["id"]: entry for entry in document["annotations"]}
    assert by_id[3] == {"id": 3, "image_id": "i3", "category_id": 9, "bbox": [3, 2, 9, 8]}
    assert by_id[100]["bbox"] == [30, 5, 10, 5] and by_id[100]["segmentation"] == [[30, 5, 50, 5, 50, 10]]
    assert by_id[104]["bbox"] == [1, 1, 4, 5]
    assert by_id[107]["iscrowd"] == 1
    assert set(by_id) == {*range(8), 100, 104, 106, 107}


def test_nothing_is_written_where_something_is(tmp_path: Path) -> None:
    inspection = inspect_dataset(yolo_set(tmp_path / "set"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for target, text in (
        ("full", "not empty"),
        ("file", "not a folder"),
        ("set", "not empty"),
        ("set/x", "in the data set"),
    ):
        with pytest.raises(UsageError, match=text):
            write_repaired(inspection, tmp_path / target)
    assert (tmp_path / "full/mine.txt").read_text() == "keep"
    (tmp_path / "empty").mkdir()
    assert write_repaired(inspection, tmp_path / "empty").images
    assert names(tmp_path) == ["empty", "file", "full", "set"]


def test_an_interrupted_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspection = inspect_dataset(yolo_set(tmp_path / "set"))
    calls: list[str] = []

    def fail(source: str, target: Path) -> None:
        calls.append(source)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("yolo.data.check.repair.shutil.copyfile", fail)
    with pytest.raises(YoloError, match="No space left on device"):
        write_repaired(inspection, tmp_path / "copy")
    assert names(tmp_path) == ["set"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1 0.5 0.5 0.1 0.1\n2 0.3 0.3 0.1 0.1\n", "counted from 1 throughout"),
        ("0 32 20 5 5\n0 30 20 5 5\n0 0.5 0.5 0.1 0.1\n", "another format"),
    ],
)
def test_what_is_wrong_as_a_whole_is_not_repaired(tmp_path: Path, lines: str, message: str) -> None:
    for number in range(4):
        split = "train" if number < 3 else "val"
        picture(tmp_path / f"set/images/{split}/{number}.jpg", number)
        label = tmp_path / f"set/labels/{split}/{number}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(lines)
    (tmp_path / "set/data.yaml").write_text("names: [x, y]\n")
    inspection = inspect_dataset(DataConfig(root=str(tmp_path / "set"), format="yolo"))
    with pytest.raises(YoloError, match=message):
        write_repaired(inspection, tmp_path / "copy")
    assert names(tmp_path) == ["set"]


def test_encrypted_images_are_read_and_stay_encrypted(tmp_path: Path) -> None:
    key = parse_key("ab" * 32, source="test")
    for number in range(4):
        split = "train" if number < 3 else "val"
        plain = tmp_path / f"{number}.jpg"
        picture(plain, number % 2)  # the third is the first again, and the last the second
        stored = tmp_path / f"set/images/{split}/{number}.jpg.enc"
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(encrypt(plain.read_bytes(), key))
        label = tmp_path / f"set/labels/{split}/{number}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(GOOD)
    (tmp_path / "set/data.yaml").write_text("names: [x]\n")
    config = DataConfig(
        root=str(tmp_path / "set"), format="yolo", image_loader="encrypted", encryption_key="ab" * 32, num_workers=0
    )
    inspection = inspect_dataset(config)
    kinds = {(finding.kind, Path(finding.file).name) for finding in inspection.report.findings}
    assert kinds == {("near-duplicate-image", "2.jpg.enc"), ("near-duplicate-image-across-splits", "1.jpg.enc")}
    write_repaired(inspection, tmp_path / "copy")
    assert names(tmp_path / "copy/images/train") == ["0.jpg.enc", "2.jpg.enc"]
    again = check_dataset(copy_settings(config, tmp_path / "copy"))
    assert {finding.severity for finding in again.findings} == {"info"}
    assert "ab" * 32 not in json.dumps(inspection.report.as_dict())


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(arg) for arg in ("data", "check", *args)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command(tmp_path: Path, synthetic_data: Path) -> None:
    yolo_set(tmp_path / "set")
    where = (f"--data.root={tmp_path / 'set'}", "--data.format", "yolo")
    code, out, _ = run(*where)
    assert code == 1
    assert f"{tmp_path}/set/labels/train/sub dir/0.txt:4: class 5, but the number of classes is 2" in out
    assert "error class-range: 1" in out
    code, out, _ = run("--json", *where)
    assert code == 1
    assert json.loads(out)["counts"]["error"] == 3
    code, out, _ = run("--fast", "--split", "val", *where)
    assert code == 0
    assert "headers only" in out and "train " not in out
    code, _, err = run(*where, "--fix", tmp_path / "copy")
    assert code == 0, err
    assert "Written: " in err and "Still there" not in err
    assert run(f"--data.root={tmp_path / 'copy'}", "--data.format=yolo")[0] == 0
    (tmp_path / "run.yaml").write_text(f"data:\n  root: {synthetic_data}\n  format: yolo\ntrainer: {{max_epochs: 1}}\n")
    assert run("--config", tmp_path / "run.yaml")[0] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--fast", "--fix", "x"], "leave --fast out"),
        (["--nonsense"], "--nonsense: there is no such option"),
        (["--data.rooot=x"], "rooot"),
        (["--split", "valid"], "no split 'valid'"),
    ],
)
def test_wrong_options(args: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(*args)
