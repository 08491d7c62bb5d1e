"""The YOLO reader: layouts, list files, names, links, and the two parsers agreeing."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from yolo.core.errors import YoloError
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.formats.report import Report
from yolo.data.formats.yolo_labels import _quick
from yolo.data.formats.yolo_lines import parse_lines
from yolo.data.labels import LabelTable

LINE = "1 0.5 0.5 0.25 0.5\n"
BOX = [15, 7.5, 25, 22.5]  # in a picture of 40 x 30


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        kind = path.suffix.lower().lstrip(".").replace("jpg", "jpeg").replace("tif", "tiff").replace("tifff", "tiff")
        Image.new("RGB", size).save(file, kind)


def label(path: Path, text: str = LINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def load(root: Path, split: str = "train", **keys: str) -> LabelTable:
    return load_labels(DataConfig(root=str(root), format="yolo", **keys), split)  # type: ignore[arg-type]  # texts only


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data.yaml").write_text("names: [x, y]\n")
    return tmp_path


@pytest.mark.parametrize(
    ("split", "images", "labels"),
    [
        ("train", "train/images", "train/labels"),
        ("val", "valid/images", "valid/labels"),
        ("val", "val/images", "val/labels"),
        ("test", "test/images", "test/labels"),
        ("train", "images/train", "labels/train"),
        ("val", "images/val", "labels/val"),
    ],
)
def test_usual_folders_are_found(root: Path, split: str, images: str, labels: str) -> None:
    picture(root / images / "deep/er/0.png")
    label(root / labels / "deep/er/0.txt")
    table = load(root, split)
    np.testing.assert_allclose(table.targets(0).boxes, [BOX])
    assert table.targets(0).labels.tolist() == [1]
    assert table.class_names == ("x", "y")
    assert table.category_ids == (0, 1)


@pytest.mark.parametrize("line", ["0.png", "images/0.png", "./images/0.png"])
def test_one_images_folder_with_list_files_needs_no_keys(root: Path, line: str) -> None:
    """The documented layout ``images/ labels/ train.txt val.txt``; each split gets its own images only."""
    for number, split in enumerate(("train", "val")):
        picture(root / f"images/{number}.png")
        label(root / f"labels/{number}.txt", f"{number} 0.5 0.5 0.2 0.2\n")
        (root / f"{split}.txt").write_text(line.replace("0", str(number)) + "\n")
    for number, split in enumerate(("train", "val")):
        listed = {f"{split}_split": f"{split}.txt"}
        for keys in ({}, listed, listed | {f"{split}_labels": "labels"}):
            table = load(root, split, **keys)
            assert list(table.paths) == [str(root / f"images/{number}.png")]
            assert table.labels.tolist() == [number]
    picture(root / "images/train/9.png")
    label(root / "labels/train/9.txt")
    assert list(load(root).paths) == [str(root / "images/train/9.png")]  # a folder of the split comes first


def test_every_suffix(root: Path) -> None:
    for name in ("a.jpg", "b.jpeg", "c.png", "d.webp", "e.tif", "f.tiff", "g.BMP", "h.JPG"):
        picture(root / "train/images" / name)
        label(root / "train/labels" / (name.split(".")[0] + ".txt"))
    (root / "train/images/._a.jpg").write_bytes(b"mac")
    (root / "train/images/notes.txt").write_text("no image")
    table = load(root)
    assert [Path(path).name for path in table.paths] == [
        "a.jpg", "b.jpeg", "c.png", "d.webp", "e.tif", "f.tiff", "g.BMP", "h.JPG",
    ]  # fmt: skip
    assert table.sizes.tolist() == [[40, 30]] * 8
    assert len(table.boxes) == 8


@pytest.mark.parametrize(
    "line", ["0.png", "images/0.png", "./images/0.png", "{root}/images/0.png", "in.png", "in", "sub/in.png", "  0.png "]
)
def test_lines_of_a_list_file(root: Path, line: str) -> None:
    for name in ("0", "1", "sub/in"):
        picture(root / f"images/{name}.png")
        label(root / f"labels/{name}.txt")
    (root / "train.txt").write_text("\ufeff" + line.format(root=root) + "\r\n\r\n", "utf-8")
    for keys in (
        {"train_images": "images", "train_labels": "labels", "train_split": "train.txt"},
        {"train_images": "images", "train_split": "train.txt"},
    ):
        table = load(root, **keys)
        assert len(table) == 1
        assert Path(table.path(0)).name in ("0.png", "in.png")
        assert len(table.targets(0)) == 1


def test_list_files_named_by_data_yaml(root: Path) -> None:
    (root / "data.yaml").write_text("train: lists/train.txt\nval: ../val/images\nnames: {0: x, 1: y}\n")
    picture(root / "images/train/0.png")
    label(root / "labels/train/0.txt")
    picture(root / "val/images/1.png")
    label(root / "val/labels/1.txt")
    label(root / "lists/train.txt", "../images/train/0.png\n../images/train/0.png\n")
    assert len(load(root).boxes) == 1
    assert len(load(root, "val").boxes) == 1  # Roboflow's ../ for a folder beside the file


def test_folders_and_list_files_together_in_data_yaml(root: Path) -> None:
    """Neither hides the other."""
    for name in ("images/all/0.png", "images/some/1.png", "images/some/2.png"):
        picture(root / name)
        label(root / name.replace("images", "labels").replace("png", "txt"))
    (root / "more.txt").write_text("images/some/2.png\n")
    (root / "data.yaml").write_text("train: [images/all, more.txt]\nnames: [x, y]\n")
    table = load(root)
    assert sorted(table.paths) == [str(root / "images/all/0.png"), str(root / "images/some/2.png")]
    assert len(table.boxes) == 2


def test_explicit_keys_win_over_data_yaml(root: Path) -> None:
    (root / "data.yaml").write_text("train: nowhere\nnames: [x, y]\n")
    picture(root / "here/0.png")
    label(root / "there/0.txt")
    assert len(load(root, train_images="here", train_labels="there").boxes) == 1


def test_labels_beside_images_without_an_images_folder(root: Path) -> None:
    picture(root / "all/0.png")
    label(root / "all/0.txt")
    assert len(load(root, train_images="all").boxes) == 1


def test_missing_list_entries_name_file_and_line(root: Path) -> None:
    picture(root / "images/0.png")
    label(root / "train.txt", "0.png\n\nnope.png\n")
    with pytest.raises(YoloError, match=rf"train\.txt line 3: no image 'nope\.png'; tried {root}/images/nope\.png"):
        load(root, train_images="images", train_split="train.txt")
    for folder in ("a", "b"):
        picture(root / f"images/{folder}/twice.png")
    label(root / "train.txt", "twice.png\n")
    with pytest.raises(YoloError, match=r"train\.txt line 1: 'twice\.png' fits 2 images"):
        load(root, train_images="images", train_split="train.txt")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train_images": "no"}, r"data\.train_images: {root}/no does not exist"),
        ({"train_images": "img", "train_labels": "no"}, r"data\.train_labels: {root}/no does not exist"),
        ({"train_split": "no.txt"}, r"data\.train_split: {root}/no\.txt does not exist"),
        ({"train_images": "img"}, r"none of the 2 images has a label file; .*{root}/img/0\.txt"),
        ({}, r"there is no key `train`"),
        ({"train_images": "none"}, r"{root}/none: there are no images"),
    ],
)
def test_what_is_not_there_is_named_in_full(root: Path, keys: dict[str, str], message: str) -> None:
    picture(root / "img/0.png")
    picture(root / "img/1.png")
    (root / "none").mkdir()
    with pytest.raises(YoloError, match=message.format(root=root)):
        load(root, **keys)


def test_no_data_at_all(tmp_path: Path) -> None:
    with pytest.raises(YoloError, match=rf"data\.root: {tmp_path}/no does not exist"):
        load(tmp_path / "no")
    (tmp_path / "classes.json").write_text('["x"]')
    with pytest.raises(YoloError, match=rf"no train images: tried {tmp_path}/train/images"):
        load(tmp_path)


def test_class_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "train/images/0.png")
    label(tmp_path / "train/labels/0.txt")
    with pytest.raises(YoloError, match=r"no class names: add a data\.yaml"):
        load(tmp_path)
    config = DataConfig(root=str(tmp_path), format="yolo", num_classes=2)
    assert load_labels(config, "train").class_names == ("class0", "class1")
    assert "class names are missing" in caplog.text
    for text in ('["x", "y"]', '{"names": ["x", "y"]}', '{"0": "x", "1": "y"}'):
        (tmp_path / "classes.json").write_text(text)
        assert load(tmp_path).class_names == ("x", "y")
    with pytest.raises(YoloError, match=r"num_classes is 3, but the data has 2"):
        load_labels(DataConfig(root=str(tmp_path), format="yolo", num_classes=3), "train")


def test_warnings_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for index in range(6):
        picture(root / f"train/images/{index}.png")
        if index != 3:
            label(root / f"train/labels/{index}.txt", "0 0.98 0.5 0.1 0.1\n0 0.5 0.5 0 0.1\n")
    with caplog.at_level(logging.WARNING, "yolo.data"):
        table = load(root)
    texts = "\n".join(record.getMessage() for record in caplog.records)
    assert len(caplog.records) == 3
    assert "boxes reach over the image edge and were clipped: 5" in texts
    assert "boxes have no width or height and were dropped: 5" in texts
    assert "images have no label file and are taken as background: 1" in texts
    assert table.targets(0).boxes[0, 2] == 40


def test_a_data_set_of_corners_is_refused(root: Path) -> None:
    picture(root / "train/images/0.png")
    lines = [f"0 {0.3 + i / 100} {0.4 + i / 100} {0.8 + i / 100} {0.9 + i / 200}" for i in range(10)]
    label(root / "train/labels/0.txt", "\n".join(lines))
    with pytest.raises(YoloError, match="look like corners"):
        load(root)


def test_links_and_pipes(root: Path) -> None:
    folder = root / "train/images"
    picture(folder / "good.png")
    label(root / "train/labels/good.txt")
    os.mkfifo(folder / "pipe.png")
    (folder / "loop").symlink_to(".")
    (folder / "link.png").symlink_to(folder / "good.png")
    assert [Path(path).name for path in load(root).paths] == ["good.png", "link.png"]
    (folder / "dangling.png").symlink_to("nowhere.png")
    with pytest.raises(YoloError, match=r"dangling\.png"):
        load(root)
    (folder / "dangling.png").unlink()
    (folder / "a.png").symlink_to(folder / "b.png")
    (folder / "b.png").symlink_to(folder / "a.png")
    with pytest.raises(YoloError, match=r"a\.png.*1 more image"):
        load(root)


def test_name_that_is_not_utf8(root: Path) -> None:
    picture(root / "train/images/good.png")
    raw = os.fsencode(root) + b"/train/images/caf\xe9.png"
    (root / "train/images/good.png").rename(os.fsdecode(raw))
    label(root / "train/labels" / os.fsdecode(b"caf\xe9.txt"))
    table = load(root)
    assert os.fsencode(table.path(0)) == raw
    label(root / "train/labels" / os.fsdecode(b"caf\xe9.txt"), "broken")
    with pytest.raises(YoloError) as caught:
        load(root)
    str(caught.value).encode()  # can be printed


def test_label_pipe_does_not_hang(root: Path) -> None:
    picture(root / "train/images/0.png")
    (root / "train/labels").mkdir()
    os.mkfifo(root / "train/labels/0.txt")
    with pytest.raises(YoloError, match=r"0\.txt: this is not a regular file"):
        load(root)


NUMBER = st.one_of(st.integers(1, 9).map(lambda i: f"{i / 10}"), st.just("5e-1"), st.just("+.25"), st.just("0.300000"))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 1).map(str), *[NUMBER] * 2, *[st.just("0.1")] * 2), unique=True),
    st.sampled_from("\n\r"),
)
def test_both_parsers_agree(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], end: str) -> None:
    path = tmp_path_factory.mktemp("labels") / "a.txt"
    path.write_bytes("".join(" ".join(row) + end for row in rows).encode())
    quick = _quick(str(path))
    assert quick is not None
    careful = parse_lines(path.read_bytes(), str(path), ["x", "y"], Report("test"))
    np.testing.assert_array_equal(np.unique(quick, axis=0), np.unique(careful, axis=0))


@settings(deadline=None, max_examples=150)
@given(st.text(st.sampled_from("0123456789.-+eE \t\r\n\0,#naixyé_\u0660"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        rows = parse_lines(text.encode(), "a.txt", ["x", "y"], Report("test"))
    except YoloError as error:
        assert "a.txt line " in str(error)
        return
    assert rows.shape[1] == 5
    assert np.isfinite(rows).all()
    assert ((rows[:, 3:] > 0) & (rows[:, 3:] <= 2)).all()
