"""The label cache: the same table as the parser's, whatever happens to the files or to the cache."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import time
from dataclasses import fields, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from yolo.core.errors import YoloError
from yolo.data import DataConfig
from yolo.data.formats.coco import load_coco
from yolo.data.formats.yolo import load_yolo
from yolo.data.label_cache import cached_table, label_cache_path
from yolo.data.label_file import read_labels_file
from yolo.data.label_inputs import inputs, root_of
from yolo.data.labels import LabelTable
from yolo.data.loaders import DefaultImageLoader

LOAD = {"yolo": load_yolo, "coco": load_coco}


class ForeignLoader(DefaultImageLoader):
    """One that might find sizes anywhere."""


class Reader:
    """Reads through the cache and counts how often the parser is asked."""

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.parsed = 0

    def parse(self) -> LabelTable:
        self.parsed += 1
        return LOAD[self.config.format](self.config, "train")

    def read(self, **changes: object) -> LabelTable:
        self.config = replace(self.config, **changes)
        return cached_table(self.config, "train", self.parse)

    def is_cached(self) -> bool:
        before = self.parsed
        table = self.read()
        assert_same(table, LOAD[self.config.format](self.config, "train"))
        return self.parsed == before


def assert_same(one: LabelTable, two: LabelTable) -> None:
    assert one.fingerprint() == two.fingerprint()
    assert list(one.paths) == list(two.paths)
    for item in fields(LabelTable):
        first, second = getattr(one, item.name), getattr(two, item.name)
        if isinstance(first, np.ndarray):
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second)


def settle() -> None:
    time.sleep(0.03)  # two changes within one step of the file system's clock cannot be told apart


@pytest.fixture
def root(synthetic_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    shutil.copytree(synthetic_data, folder, ignore=shutil.ignore_patterns(".yolo_*"))
    settle()
    return folder


@pytest.fixture(params=["yolo", "coco"])
def reader(request: pytest.FixtureRequest, root: Path) -> Reader:
    reader = Reader(DataConfig(root=str(root), format=request.param))
    reader.read()
    assert reader.parsed == 1
    assert label_cache_path(reader.config, "train").is_file()
    settle()
    return reader


def first(folder: Path) -> Path:
    return min(path for path in folder.iterdir() if not path.name.startswith("."))


def rewrite(path: Path, content: bytes) -> None:
    """Another content of the same size, with the same time of modification."""
    facts = path.stat()
    assert len(content) == facts.st_size
    assert content != path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_mtime_ns == facts.st_mtime_ns


def test_the_parser_is_asked_once(reader):
    assert reader.is_cached()
    table = reader.read()
    assert not table.boxes.flags.writeable
    assert reader.parsed == 1


def test_what_does_not_matter_keeps_it(reader):
    reader.read(batch_size=3, data_fraction=0.5, cache_images="disk", jpeg_quality=50, val_images="images/train")
    assert reader.parsed == 1


def test_another_image_of_the_same_size_and_time(reader):
    image = first(Path(reader.config.root) / "images/train")
    rewrite(image, image.read_bytes()[:-3] + b"\0\xff\xd9")
    assert not reader.is_cached()
    settle()
    assert reader.is_cached()


def test_other_labels_of_the_same_size_and_time(root, reader):
    if reader.config.format == "coco":
        path = root / "annotations/instances_train.json"
        text = path.read_text()
        start = text.index('"bbox": [') + len('"bbox": [')
        rewrite(path, (text[:start] + ("2" if text[start] != "2" else "3") + text[start + 1 :]).encode())
    else:
        path = max((root / "labels/train").iterdir(), key=lambda path: path.stat().st_size)
        text = path.read_bytes()
        rewrite(path, bytes([text[0] ^ 1]) + text[1:])
    with_cache = reader.parsed
    reader.read()
    assert reader.parsed == with_cache + 1


def test_a_touched_file_is_looked_at_again(root, reader):
    os.utime(first(root / "images/train"))
    assert not reader.is_cached()


def test_added_removed_and_renamed_images_of_yolo(root):
    reader = Reader(DataConfig(root=str(root), format="yolo"))
    count = len(reader.read())
    settle()
    image = first(root / "images/train")
    shutil.copy(image, image.with_name("added.png" if image.suffix == ".png" else f"added{image.suffix}"))
    assert len(reader.read()) == count + 1
    settle()
    (root / f"images/train/added{image.suffix}").rename(root / f"images/train/renamed{image.suffix}")
    assert any("renamed" in path for path in reader.read().paths)
    settle()
    (root / f"images/train/renamed{image.suffix}").unlink()
    assert len(reader.read()) == count
    settle()
    (root / "images/train/deeper").mkdir()
    image.rename(root / "images/train/deeper" / image.name)
    assert any("deeper" in path for path in reader.read().paths)
    assert reader.parsed == 5


def test_added_and_removed_labels_of_yolo(root):
    reader = Reader(DataConfig(root=str(root), format="yolo"))
    reader.read()
    settle()
    label = max((root / "labels/train").iterdir(), key=lambda path: path.stat().st_size)
    text = label.read_text()
    label.unlink()
    assert not reader.is_cached()
    settle()
    assert reader.is_cached()
    label.write_text(text)
    assert not reader.is_cached()
    settle()
    (root / "labels/train/orphan.txt").write_text("")
    assert not reader.is_cached()


def test_names_of_yolo(root):
    reader = Reader(DataConfig(root=str(root), format="yolo"))
    names = reader.read().class_names
    settle()
    yaml = root / "data.yaml"
    yaml.write_text(yaml.read_text().replace(names[0], "another"))
    assert "another" in reader.read().class_names
    settle()
    yaml.unlink()
    (root / "classes.json").write_text(json.dumps([*names[1:], names[0]]))
    settle()
    assert reader.read().class_names[-1] == names[0]
    settle()
    (root / "classes.json").write_text(json.dumps(names))
    assert reader.read().class_names == names
    settle()
    (root / "classes.json").unlink()
    assert reader.read(num_classes=len(names)).class_names[0] == "class0"
    assert reader.parsed == 5
    settle()
    assert len(reader.read(num_classes=len(names) + 1).class_names) == len(names) + 1


@pytest.mark.parametrize("data_format", ["yolo", "coco"])
def test_lists(root, data_format):
    names = sorted(path.name for path in (root / "images/train").iterdir())
    listing = root / "chosen.txt"
    listing.write_text("\n".join(names[:4]))
    settle()
    reader = Reader(DataConfig(root=str(root), format=data_format, train_split="chosen.txt"))
    if data_format == "yolo":
        reader.config = replace(reader.config, train_images="images/train")
    assert len(reader.read()) == 4
    settle()
    assert reader.is_cached()
    listing.write_text("\n".join(names[1:5]))
    assert [Path(path).name for path in reader.read().paths] == names[1:5]
    settle()
    os.utime(root / "images/train" / names[2])
    assert not reader.is_cached()
    settle()
    (root / "images/train" / names[2]).unlink()
    with pytest.raises(YoloError, match=names[2]):
        reader.read()


def test_places_that_come_first_are_noticed(root):
    """Folders go before lists, and a data.yaml before both."""
    names = json.loads((root / "annotations/instances_train.json").read_text())["categories"]
    (root / "data.yaml").unlink()
    settle()
    reader = Reader(DataConfig(root=str(root), format="yolo", num_classes=len(names)))
    reader.read()
    settle()
    shutil.copytree(root / "images/val", root / "train/images")
    shutil.copytree(root / "labels/val", root / "train/labels")
    settle()
    assert all("/train/images/" in path for path in reader.read().paths)
    (root / "data.yaml").write_text(f"train: images/train\nnc: {len(names)}\n")
    settle()
    assert all("/images/train/" in path for path in reader.read().paths)


def test_a_removed_image_of_coco(root):
    reader = Reader(DataConfig(root=str(root), format="coco"))
    reader.read()
    settle()
    shutil.copy(first(root / "images/train"), root / "images/train/unlisted.png")
    assert reader.is_cached()  # the json decides
    first(root / "images/train").unlink()
    with pytest.raises(YoloError, match="does not exist"):
        reader.read()


def test_other_paths_in_the_configuration(root, reader):
    key = {"yolo": "labels", "coco": "ann"}[reader.config.format]
    source = {"yolo": root / "labels/train", "coco": root / "annotations/instances_train.json"}[reader.config.format]
    target = root / f"other{source.suffix}"
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    settle()
    reader.read(**{f"train_{key}": str(target)})
    assert reader.parsed == 2


def test_warnings_are_told_again(root, caplog):
    caplog.set_level(logging.INFO, "yolo.data")
    label = max((root / "labels/train").iterdir(), key=lambda path: path.stat().st_size)
    label.unlink()
    (root / "labels/train/orphan.txt").write_text("")
    settle()
    reader = Reader(DataConfig(root=str(root), format="yolo"))
    reader.read()
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert any("have no label file" in text for _, text in lines)
    assert any("orphan.txt" in text for _, text in lines)
    for _ in range(2):
        caplog.clear()
        reader.read()
        assert [(record.levelno, record.getMessage()) for record in caplog.records] == lines
    assert reader.parsed == 1


def test_a_moved_data_set(root, tmp_path, reader, caplog):
    caplog.set_level(logging.INFO, "yolo.data")
    if reader.config.format == "yolo":
        first(root / "labels/train").unlink()
        settle()
        reader.read()
    parsed = reader.parsed
    root.rename(tmp_path / "moved")
    reader.config = replace(reader.config, root=str(tmp_path / "moved"))
    caplog.clear()
    table = reader.read()
    assert all(path.startswith(str(tmp_path / "moved")) for path in table.paths)
    assert reader.parsed == parsed
    assert str(root) not in caplog.text
    assert_same(table, LOAD[reader.config.format](reader.config, "train"))


def test_refresh_reads_anew(reader):
    reader.read(cache_refresh=True)
    assert reader.parsed == 2
    settle()
    assert reader.read(cache_refresh=False) is not None
    assert reader.parsed == 2


def test_damage_is_noticed(reader, caplog):
    caplog.set_level(logging.INFO, "yolo.data")
    path = label_cache_path(reader.config, "train")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, len(whole), 20).tolist(), 3, 11, len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        assert read_labels_file(path, root=root_of(reader.config)) is None
    for size in (0, 1, 12, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert read_labels_file(path, root=root_of(reader.config)) is None
    assert "damaged" in caplog.text
    assert not reader.is_cached()
    assert path.read_bytes() == whole
    assert reader.is_cached()


def test_a_file_made_to_hurt(reader):
    path = label_cache_path(reader.config, "train")
    whole = path.read_bytes()
    for wrong in (b'"|O"', b'"<f8"', b'"a"', b"[1e9]", b"null"):
        content = whole[:-32].replace(b'"<i4"', wrong, 1)
        path.write_bytes(content + blake2b(content, digest_size=32).digest())
        assert read_labels_file(path, root=root_of(reader.config)) is None
    path.unlink()
    os.mkfifo(path)
    assert not reader.is_cached()
    settle()
    assert reader.is_cached()  # and the pipe is gone
    path.unlink()
    path.mkdir()
    assert not reader.is_cached()


@pytest.mark.parametrize(
    "changes",
    [
        {"cache_labels": False},
        {"cache_encrypt": True},
        {"image_loader": "encrypted"},
        {"image_loader": {"class_path": "yolo.data.encrypted_loader.EncryptedImageLoader"}},
        {"image_loader": {"class_path": f"{__name__}.ForeignLoader"}},
    ],
    ids=str,
)
def test_never_in_clear_and_never_what_is_not_known(root, changes):
    reader = Reader(DataConfig(root=str(root), format="yolo", **changes))
    reader.read()
    reader.read()
    assert reader.parsed == 2
    assert list(root.glob(".yolo_*")) == []


def test_formats_of_plugins_are_always_parsed(root):
    reader = Reader(DataConfig(root=str(root), format="yolo"))
    table = reader.read()
    config = replace(reader.config, format="mine")
    assert cached_table(config, "train", lambda: table) is table
    assert not label_cache_path(config, "train").exists()
    with pytest.raises(KeyError):
        inputs(config, "train")


def test_a_read_only_folder(root, caplog):
    caplog.set_level(logging.INFO, "yolo.data")
    root.chmod(0o555)
    try:
        check_unwritable(Reader(DataConfig(root=str(root), format="yolo")), caplog)
    finally:
        root.chmod(0o755)
    assert list(root.glob(".*")) == []  # not even root writes there


def test_a_cache_folder_that_cannot_be(root, caplog):
    caplog.set_level(logging.INFO, "yolo.data")
    (root / "file").write_text("")
    check_unwritable(Reader(DataConfig(root=str(root), format="yolo", cache_dir="file/below")), caplog)


def check_unwritable(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    reader.read()
    lines = [record for record in caplog.records if "cannot be written" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].levelno == logging.INFO


def test_another_folder_for_caches(root, tmp_path):
    reader = Reader(DataConfig(root=str(root), format="coco", cache_dir=str(tmp_path / "fast")))
    reader.read()
    assert [path.name for path in (tmp_path / "fast").iterdir()] == [".yolo_labels_coco_train.cache"]
    assert list(root.glob(".yolo_*")) == []
    assert reader.is_cached()


@pytest.mark.parametrize("name", ["bccd", "tiny-coco"])
@pytest.mark.parametrize("data_format", ["yolo", "coco"])
def test_real_data_sets(datasets, tmp_path, name, data_format):
    config = DataConfig(root=str(datasets / name), format=data_format, cache_dir=str(tmp_path))
    for split in ("train", "val"):
        kept = [cached_table(config, split, lambda split=split: LOAD[data_format](config, split)) for _ in range(2)]
        assert label_cache_path(config, split).is_file()
        assert_same(*kept)
        assert_same(kept[1], cached_table(config, split, pytest.fail))


def test_images_beside_the_cache_file(root):
    """The cache file is no input of its own folder."""
    (root / "flat").mkdir()
    for kind in ("images", "labels"):
        for path in (root / kind / "train").iterdir():
            shutil.copy(path, root / "flat" / path.name)
    (root / "flat/data.yaml").write_text("train: .\nnames: [a, b, c, d, e, f]\n")
    settle()
    reader = Reader(DataConfig(root=str(root / "flat"), format="yolo"))
    reader.read()
    assert reader.is_cached()


def test_a_change_while_it_is_read_is_not_kept(root):
    config = DataConfig(root=str(root), format="yolo")

    def parse() -> LabelTable:
        table = load_yolo(config, "train")
        path = first(root / "labels/train")
        path.write_bytes(path.read_bytes() + b"\n")
        return table

    cached_table(config, "train", parse)
    assert not label_cache_path(config, "train").exists()


def _read_often(root: str, rounds: int, wrong: multiprocessing.Queue) -> None:
    config = DataConfig(root=root, format="yolo")
    expected = load_yolo(config, "train").fingerprint()
    for number in range(rounds):
        table = cached_table(
            replace(config, cache_refresh=number % 2 == 0), "train", lambda: load_yolo(config, "train")
        )
        if table.fingerprint() != expected:
            wrong.put(number)


def test_several_processes_at_once(root):
    context = multiprocessing.get_context("fork")
    wrong = context.Queue()
    processes = [context.Process(target=_read_often, args=(str(root), 15, wrong)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert wrong.empty()
    assert [path.name for path in root.glob(".*")] == [".yolo_labels_yolo_train.cache"]


def test_names_that_are_no_text_and_ids_that_are_no_numbers(tmp_path, synthetic_data):
    image = first(synthetic_data / "images/train")
    odd = os.fsdecode(b"odd \xff name" + os.fsencode(image.suffix))
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "annotations").mkdir()
    shutil.copy(image, tmp_path / "images/train" / odd)
    shutil.copy(image, tmp_path / f"images/train/plain{image.suffix}")
    (tmp_path / "labels/train/plain.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    document = {
        "images": [{"id": "first", "file_name": f"plain{image.suffix}"}],
        "annotations": [{"id": 1, "image_id": "first", "category_id": 1 << 70, "bbox": [1, 1, 5, 5], "area": 25}],
        "categories": [{"id": 1 << 70, "name": "ä thing"}],
    }
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(document))
    settle()
    for data_format in LOAD:
        reader = Reader(DataConfig(root=str(tmp_path), format=data_format, num_classes=1))
        reader.read()
        assert reader.is_cached()
        table = reader.read()
        assert reader.parsed == 1
    assert table.image_id(0) == "first"
    assert table.category_ids == (1 << 70,)


@pytest.mark.slow
def test_it_is_worth_it(tmp_path, synthetic_data):
    image = first(synthetic_data / "images/train").read_bytes()
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "labels/train").mkdir(parents=True)
    for number in range(5000):
        (tmp_path / f"images/train/{number}.jpg").write_bytes(image)
        (tmp_path / f"labels/train/{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    settle()
    reader = Reader(DataConfig(root=str(tmp_path), format="yolo", num_classes=1))
    reader.read()
    times = []
    for work in (reader.parse, reader.read):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    assert times[1] < 0.5 * times[0], times
