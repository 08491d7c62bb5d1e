"""The index: what goes in comes out, and what anybody could have put there is looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo.data.cache import parts as parts_module
from yolo.data.cache.errors import DamagedCacheError
from yolo.data.cache.index import CacheIndex, ConfidentialTable, SplitIndex, write_index
from yolo.data.cache.parts import seal_arrays
from yolo.data.cache.readers import close_all
from yolo.data.cache.seal import index_label
from yolo.data.cache.store import HEAD, CacheStore, read_head
from yolo.data.cache.writer import Writer
from yolo.data.encryption.keys import Key, parse_key
from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings
from yolo.data.testing.caches import make_cache, make_pictures, make_table

PICTURES = make_pictures(9, size=16)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture(params=["plain", "encrypted"])
def key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Key | None:
    monkeypatch.setenv("YOLO_ENCRYPTION_KEY", "cd" * 32)
    return parse_key("cd" * 32, source="test") if request.param == "encrypted" else None


def assert_same(found: CacheIndex, expected: CacheIndex) -> None:
    assert (found.settings, found.root, list(found.paths)) == (expected.settings, expected.root, list(expected.paths))
    for name in ("checks", "sizes_stored", "source_sizes", "mtimes", "ctimes", "digests"):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype and a.shape == b.shape and not a.flags.writeable
    assert list(found.splits) == list(expected.splits)
    for name, split in expected.splits.items():
        np.testing.assert_array_equal(found.splits[name].records, split.records)
        for item in fields(LabelTable):
            a, b = (getattr(each.table, item.name) for each in (found.splits[name], split))
            if isinstance(b, np.ndarray):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype and a.shape == b.shape
            elif isinstance(b, PackedStrings):
                assert list(a) == list(b)
            else:
                assert a == b


def rewrite(folder: Path, key: Key | None, index: CacheIndex) -> None:
    head = read_head(folder)
    assert head is not None
    with Writer(folder) as writer:
        write_index(writer, head.seal(key, folder), index)


def test_it_comes_back(tmp_path: Path, key: Key | None) -> None:
    index = make_cache(tmp_path, PICTURES, key=key)
    found = CacheStore.open(tmp_path, key=key).index
    assert_same(found, index)
    assert len(found) == 9
    assert isinstance(found.splits["train"].table, ConfidentialTable) == (key is not None)


def test_everything_a_table_can_hold(tmp_path: Path, key: Key | None) -> None:
    """Foreign ids, no boxes, crowds, images in any order, names that are no text."""
    index = make_cache(tmp_path, PICTURES, key=key)
    paths = PackedStrings.pack([f"ü/{number} \udce4.jpg" for number in range(8)] + ["/abs/päth.png"])
    train = make_table(paths[number] for number in (4, 2, 8, 0))
    train = replace(
        train,
        foreign_ids=PackedStrings.pack(json.dumps(value) for value in ("a", 1 << 70, "ä", "")),
        crowd=np.array([True, False, False, True]),
        category_ids=(0, 1 << 80),
        class_names=("", "\u0000 \U0001f600 \udce4"),
        boxes=train.boxes * np.float32(0.1),
    )
    offsets = np.array([0, 0, 0], np.int64)
    empty = replace(
        make_table([paths[5], paths[6]]),
        offsets=offsets,
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        crowd=np.zeros(0, np.bool_),
        area=np.zeros(0, np.float32),
    )
    splits = {
        "train": SplitIndex(train, np.array([4, 2, 8, 0], np.int32)),
        "val": SplitIndex(empty, np.array([5, 6], np.int32)),
        "test": SplitIndex(make_table([]), np.zeros(0, np.int32)),
    }
    changed = replace(index, paths=paths, splits=splits, root="/ä \udcff")
    rewrite(tmp_path, key, changed)
    found = CacheStore.open(tmp_path, key=key).index
    assert_same(found, changed)
    assert found.splits["train"].table.image_id(1) == 1 << 70
    assert found.splits["train"].table.foreign_ids is not None and found.splits["val"].table.foreign_ids is None


def test_arrays_of_many_parts(tmp_path: Path, key: Key | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "_PART", 23)
    index = make_cache(tmp_path, PICTURES, key=key)
    assert_same(CacheStore.open(tmp_path, key=key).index, index)
    with Writer(tmp_path) as writer:
        labels = [label for label, _ in writer.items(b"index/paths.data/")]
        assert len(labels) > 9
        values = [writer.get(label) for label in labels[:2]]
        writer.put_many([(labels[0], values[1] or b""), (labels[1], values[0] or b"")])
    with pytest.raises(DamagedCacheError, match="index"):
        _ = CacheStore.open(tmp_path, key=key).index


def test_a_new_index_replaces_the_old_one_whole(tmp_path: Path, key: Key | None) -> None:
    index = make_cache(tmp_path, PICTURES, key=key)
    fewer = replace(index, splits={"val": index.splits["val"]})
    rewrite(tmp_path, key, fewer)
    with Writer(tmp_path) as writer:
        assert not [label for label, _ in writer.items(b"index/train")]
        assert [label for label, _ in writer.items(b"index/val.boxes")] == [index_label("val.boxes", 0)]
    assert_same(CacheStore.open(tmp_path, key=key).index, fewer)


def test_paths_that_contradict_the_records_are_not_written(tmp_path: Path) -> None:
    index = make_cache(tmp_path, PICTURES)
    wrong = replace(index, splits={"val": SplitIndex(make_table(["other.jpg"]), np.array([3], np.int32))})
    with pytest.raises(ValueError, match="val"):
        rewrite(tmp_path, None, wrong)
    assert_same(CacheStore.open(tmp_path, key=None).index, index)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "empty", "moved"])
@pytest.mark.parametrize("name", ["manifest", "paths.data", "val.boxes"])
def test_damage_is_noticed(tmp_path: Path, key: Key | None, name: str, damage: str) -> None:
    make_cache(tmp_path, PICTURES, key=key)
    label = index_label(name, 0)
    with Writer(tmp_path) as writer:
        value = writer.get(label) or b""
        changed = {
            "cut": value[:-1],
            "flipped": bytes([value[0] ^ 1]) + value[1:],
            "empty": b"",
            "moved": writer.get(index_label("checks", 0)) or b"",
        }
        if damage == "missing":
            writer.delete([label])
        else:
            writer.put_many([(label, changed[damage])])
    with pytest.raises(DamagedCacheError, match=r"its index cannot be read") as caught:
        _ = CacheStore.open(tmp_path, key=key).index
    assert str(tmp_path) in str(caught.value) and "cache_refresh" in str(caught.value)


Change = Callable[[dict[str, Any], dict[str, Any]], None]


def described(key: str, value: Any) -> Change:
    return lambda arrays, description: description.update({key: value})


def in_split(key: str, value: Any) -> Change:
    return lambda arrays, description: description["splits"]["train"].update({key: value})


def array(name: str, value: Any, dtype: str = "<i8") -> Change:
    return lambda arrays, description: arrays.update({name: np.array(value, dtype)})


@pytest.mark.parametrize(
    "change",
    [
        described("records", 10),
        described("records", "x"),
        described("settings", {}),
        described("settings", None),
        described("splits", [1]),
        described("splits", {"train": 3}),
        described("splits", {"other": {"class_names": [], "category_ids": []}}),
        in_split("class_names", "ab"),
        in_split("class_names", ["a"]),
        in_split("class_names", [1, 2]),
        in_split("category_ids", [1.5, 2]),
        in_split("category_ids", None),
        in_split("foreign_ids", True),
        array("train.records", [0, 1, 2, 3, 4, 5, 6, 7, 9], "<i4"),
        array("train.records", [-1, 1, 2, 3, 4, 5, 6, 7, 8], "<i4"),
        array("train.records", [0, 1], "<i4"),
        array("train.offsets", [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]),
        array("train.offsets", [0, 9, 2, 3, 4, 5, 6, 7, 8, 9]),
        array("train.offsets", [1, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        array("train.offsets", []),
        array("train.labels", [0, 1, 2, 1, 0, 1, 0, 1, 0]),
        array("train.labels", [0, 1, -1, 1, 0, 1, 0, 1, 0]),
        array("train.labels", [0, 1]),
        array("train.boxes", [[1, 2, 3, np.nan]] * 9, "<f4"),
        array("train.boxes", [1.0] * 35, "<f4"),
        array("train.area", [np.inf] * 9, "<f4"),
        array("train.crowd", [2] * 9, "|u1"),
        array("train.sizes", [[0, 5]] * 9, "<i4"),
        array("train.image_ids", [1]),
        array("paths.offsets", [0] * 9 + [1 << 62]),
        array("paths.offsets", []),
        array("checks", [1, 2, 3], "|u1"),
        array("mtimes", [1] * 8),
        array("sizes_stored", [1, 2, 3, 4], "|u1"),
        lambda arrays, description: arrays.pop("train.boxes"),
        lambda arrays, description: arrays.update(more=np.zeros(3)),
    ],
)
def test_a_plain_index_that_somebody_made_up_is_refused(tmp_path: Path, change: Change) -> None:
    """Its checksums are right. None of this may end in another error than the one that says so."""
    index = make_cache(tmp_path, PICTURES)
    head = read_head(tmp_path)
    assert head is not None
    with Writer(tmp_path) as writer:
        seal = head.seal(None, tmp_path)
        arrays: dict[str, Any] = {}
        captured: list[dict[str, Any]] = []

        def capture(seal: Any, given: Any, description: Any) -> Iterator[tuple[bytes, bytes]]:
            arrays.update(given)
            captured.append(json.loads(json.dumps(description)))
            return iter(())

        import yolo.data.cache.index as index_module

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(index_module, "seal_arrays", capture)
            write_index(writer, seal, index)
        writer.replace(b"index/", lambda: seal_arrays(seal, arrays, captured[0]))
    assert_same(CacheStore.open(tmp_path, key=None).index, index)
    change(arrays, captured[0])
    with Writer(tmp_path) as writer:
        writer.replace(b"index/", lambda: seal_arrays(seal, arrays, captured[0]))
    with pytest.raises(DamagedCacheError):
        _ = CacheStore.open(tmp_path, key=None).index


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"[" * 50_000, b'{"description": {}, "parts": {"a": "x"}}', b"\xff"]
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    make_cache(tmp_path, PICTURES)
    head = read_head(tmp_path)
    assert head is not None
    label = index_label("manifest", 0)
    with Writer(tmp_path) as writer:
        writer.put_many([(label, head.seal(None, tmp_path).close(text, label))])
    with pytest.raises(DamagedCacheError):
        _ = CacheStore.open(tmp_path, key=None).index


def test_a_head_that_says_otherwise_is_noticed(tmp_path: Path) -> None:
    """It is in clear; so the index repeats what matters."""
    make_cache(tmp_path, PICTURES)
    head = read_head(tmp_path)
    assert head is not None
    with Writer(tmp_path) as writer:
        writer.put_many([(HEAD, replace(head, records=8).as_json())])
    with pytest.raises(DamagedCacheError, match="head"):
        _ = CacheStore.open(tmp_path, key=None).index


def test_tables_of_consecutive_records_share_the_text_of_the_paths(tmp_path: Path) -> None:
    make_cache(tmp_path, PICTURES)
    index = CacheStore.open(tmp_path, key=None).index
    assert np.shares_memory(index.paths.data, index.splits["train"].table.paths.data)
    assert index.splits["val"].table.paths.offsets[0] == 0
    assert isinstance(index.splits["val"].table, LabelTable)
