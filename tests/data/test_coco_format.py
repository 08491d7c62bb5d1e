"""The COCO reader on small files made here, and on the real data sets."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels, require_same_classes
from yolo.data.loaders import ImageLoader


def annotation(number: int, image: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


DOCUMENT: dict[str, Any] = {
    "images": [
        {"id": 70, "file_name": "b.png", "width": 40, "height": 30},
        {"id": 9, "file_name": "sub/a.png", "width": 20, "height": 10},
        {"id": 8, "file_name": "c.png", "width": 20, "height": 10},
    ],
    "categories": [{"id": 44, "name": "late"}, {"id": -3, "name": "early"}, {"id": 7, "name": "mid"}],
    "annotations": [
        annotation(5, 9, 7, [1, 2, 3, 4], area=6.5),
        annotation(2, 70, 44, [10, 10, 20, 15.5], iscrowd=0),
        annotation(3, 70, -3, [0, 0, 40, 30], iscrowd=1, area=600),
        annotation(4, 9, 44, [0, 0, 20.4, 10]),
    ],
}


def write(root: Path, document: dict[str, Any] = DOCUMENT, split: str = "train") -> DataConfig:
    for entry in document["images"]:
        path = root / "images" / split / entry["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (entry.get("width", 20), entry.get("height", 10))).save(path)
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return DataConfig(root=str(root))


def test_ids_boxes_and_crowds(tmp_path: Path) -> None:
    table = load_labels(write(tmp_path), "train")
    assert table.class_names == ("early", "mid", "late")  # by category id
    assert table.category_ids == (-3, 7, 44)
    assert table.image_ids.tolist() == [70, 9, 8]  # in the order of the file
    assert table.path(1) == str(tmp_path / "images/train/sub/a.png")
    np.testing.assert_array_equal(table.targets(0).boxes, [[10, 10, 30, 25.5]])
    assert table.targets(0).labels.tolist() == [2]
    assert table.truth(0).crowd.tolist() == [False, True]
    assert table.truth(0).area.tolist() == [310, 600]
    np.testing.assert_array_equal(table.targets(1).boxes, [[1, 2, 4, 6], [0, 0, 20, 10]])
    assert len(table.targets(2)) == 0


def test_rounding_stays_as_written_for_the_evaluator(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = load_labels(write(tmp_path), "train")
    assert not caplog.records
    assert table.coco_ground_truth()["annotations"][3]["bbox"] == pytest.approx([0, 0, 20.4, 10], rel=1e-6)


def test_ground_truth_satisfies_pycocotools(datasets: Path) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    root = datasets / "tiny-coco"
    table = load_labels(DataConfig(root=str(root)), "val")
    official = coco_module.COCO(str(root / "annotations/instances_val.json"))
    ours = coco_module.COCO()
    ours.dataset = table.coco_ground_truth()
    ours.createIndex()
    assert sorted(ours.getImgIds()) == sorted(official.getImgIds())
    assert ours.getCatIds() == official.getCatIds()
    for image in official.getImgIds():
        mine = sorted(ours.loadAnns(ours.getAnnIds(image)), key=lambda entry: entry["bbox"])
        theirs = sorted(official.loadAnns(official.getAnnIds(image)), key=lambda entry: entry["bbox"])
        assert [entry["category_id"] for entry in mine] == [entry["category_id"] for entry in theirs]
        assert [entry["iscrowd"] for entry in mine] == [entry["iscrowd"] for entry in theirs]
        for key in ("bbox", "area"):
            np.testing.assert_allclose([e[key] for e in mine], [e[key] for e in theirs], rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "split", "images", "boxes"), [("bccd", "test", 72, 945), ("tiny-coco", "val", 50, 377)]
)
def test_real_data(datasets: Path, name: str, split: str, images: int, boxes: int) -> None:
    table = load_labels(DataConfig(root=str(datasets / name)), split)
    assert len(table) == images
    assert sum(len(table.targets(index)) for index in range(images)) == boxes


def test_both_formats_tell_the_same(datasets: Path) -> None:
    root = str(datasets / "tiny-coco")
    one = load_labels(DataConfig(root=root), "train")
    two = load_labels(DataConfig(root=root, format="yolo"), "train")
    require_same_classes(one, two)
    by_name = {two.path(index): index for index in range(len(two))}
    assert len(one) == len(two)
    for index in range(len(one)):
        mine, other = one.targets(index), two.targets(by_name[one.path(index)])
        np.testing.assert_array_equal(mine.labels, other.labels)
        np.testing.assert_allclose(mine.boxes, other.boxes, atol=1e-3)


def test_num_classes_must_agree(tmp_path: Path) -> None:
    config = write(tmp_path)
    assert load_labels(DataConfig(root=config.root, num_classes=3), "train").num_classes == 3
    with pytest.raises(UsageError, match=r"data\.num_classes is 5, but the data has 3 classes"):
        load_labels(DataConfig(root=config.root, num_classes=5), "train")


def test_what_is_not_there_is_named_in_full(tmp_path: Path) -> None:
    with pytest.raises(
        YoloError, match=rf"data\.train_ann: {tmp_path}/annotations/instances_train\.json does not exist"
    ):
        load_labels(DataConfig(root=str(tmp_path)), "train")
    write(tmp_path)
    with pytest.raises(YoloError, match=rf"data\.train_images: {tmp_path}/nowhere does not exist"):
        load_labels(DataConfig(root=str(tmp_path), train_images="nowhere"), "train")
    with pytest.raises(UsageError, match="'valid'"):
        load_labels(DataConfig(root=str(tmp_path)), "valid")
    with pytest.raises(UsageError, match="coco"):
        load_labels(DataConfig(root=str(tmp_path), format="cocoo"), "train")


def test_split_file_filters(tmp_path: Path) -> None:
    root = write(tmp_path).root
    (tmp_path / "some.txt").write_text("c.png\nsub/a.png\n")
    table = load_labels(DataConfig(root=root, train_split="some.txt"), "train")
    assert table.image_ids.tolist() == [8, 9]
    assert len(table.targets(1)) == 2
    (tmp_path / "images/train/extra.png").write_bytes((tmp_path / "images/train/c.png").read_bytes())
    (tmp_path / "some.txt").write_text("extra.png\n")
    with pytest.raises(YoloError, match=r"extra\.png is not in the annotation file"):
        load_labels(DataConfig(root=root, train_split="some.txt"), "train")


def test_one_warning_a_kind_with_a_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    document["annotations"] += [annotation(10 + i, 70, 7, [30, 0, 20 + i, 5]) for i in range(3)]
    document["annotations"] += [annotation(20 + i, 70, 7, [3, 3, 0, i]) for i in range(4)]
    with caplog.at_level(logging.WARNING, "yolo.data"):
        table = load_labels(write(tmp_path, document), "train")
    assert [record.getMessage().split(": ")[1:3] for record in caplog.records] == [
        ["boxes have no width or height and were dropped", "4 (first"],
        ["boxes reach over the image edge and were clipped", "3 (first"],
    ]
    assert "annotation 10 [30, 0, 20, 5]" in caplog.text
    np.testing.assert_array_equal(table.targets(0).boxes[-1], [30, 0, 40, 5])


class Remote(ImageLoader):
    """Images that are on no disk."""

    def __call__(self, path: str) -> Image.Image:
        return Image.new("RGB", (20, 10))


def test_custom_loader_needs_no_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path)
    (tmp_path / "images/train/c.png").unlink()
    (tmp_path / "images/train/sub/a.png").unlink()
    with pytest.raises(YoloError, match=r"image 9: .*sub/a\.png does not exist"):
        load_labels(config, "train")
    monkeypatch.setattr("yolo.data.formats.coco.open_loader", lambda value, **_: Remote())
    table = load_labels(config, "train")
    assert table.sizes.tolist() == [[40, 30], [20, 10], [20, 10]]


def test_classes_of_two_splits(tmp_path: Path) -> None:
    train = load_labels(write(tmp_path), "train")
    other = json.loads(json.dumps(DOCUMENT))
    other["categories"][0]["name"] = "other"
    with pytest.raises(YoloError, match="class 2 is 'late' in one split and 'other' in the other"):
        require_same_classes(train, load_labels(write(tmp_path, other, "val"), "val"))


def test_huge_sparse_json_is_refused_before_reading(tmp_path: Path) -> None:
    config = write(tmp_path)
    with (tmp_path / "annotations/instances_train.json").open("r+b") as file:
        file.truncate(4 << 30)
    with pytest.raises(YoloError, match=r"4,295 MB is more than"):
        load_labels(config, "train")
