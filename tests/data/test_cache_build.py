"""Filling a cache: what is in it, what stops it, and how it goes on."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo.core.errors import YoloError
from yolo.data.cache import draft, writer
from yolo.data.cache.build import build_cache
from yolo.data.cache.head import read_head
from yolo.data.cache.plan import shrink
from yolo.data.cache.promote import CacheBusyError, partial_folder
from yolo.data.cache.readers import database_file
from yolo.data.cache.seal import record_label
from yolo.data.cache.settings import CacheSettings
from yolo.data.cache.store import CacheStore
from yolo.data.cache.writer import Writer
from yolo.data.config import DataConfig
from yolo.data.encryption.keys import Key
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loaders import DefaultImageLoader, ImageLoader
from yolo.data.loaders.base import Pixels

KEY = Key(bytes(range(32)))
RAW = CacheSettings("yolo", "raw", 95, (64, 48), 1.0, encrypted=False)


@dataclass
class Counting(ImageLoader):
    """The default loader; remembers what it was asked for."""

    asked: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda path: None
    lock: Any = field(default_factory=threading.Lock)

    def __call__(self, path: str) -> Pixels:
        with self.lock:
            self.asked.append(path)
        self.before(path)
        return DefaultImageLoader().read(path)


@dataclass
class Data:
    """A small data set."""

    root: Path
    tables: dict[str, LabelTable]

    @property
    def folder(self) -> Path:
        return self.root / ".yolo_cache_64x48_f1.0"

    @property
    def draft(self) -> Path:
        return partial_folder(self.folder)

    @property
    def paths(self) -> list[str]:
        return [*self.tables["train"].paths, *self.tables["val"].paths]

    def build(self, loader: ImageLoader | None = None, settings: CacheSettings = RAW, **options: Any) -> CacheStore:
        key = KEY if settings.encrypted else None
        options = {"workers": 2, "root": self.root, "key": key} | options
        folder = build_cache(self.folder, settings, self.tables, loader=loader or Counting(), **options)
        return CacheStore.open(folder, key=key)

    def check(self, store: CacheStore, size: tuple[int, int] | None = (64, 48)) -> None:
        """Every picture is there, to the pixel, and nothing is left beside the cache."""
        assert store.head.complete
        assert len(store.index) == len(self.paths) == store.head.records
        for split, table in self.tables.items():
            cached = store.index.splits[split]
            assert [store.index.paths[record] for record in cached.records] == [
                Path(path).relative_to(self.root).as_posix() for path in table.paths
            ]
            np.testing.assert_array_equal(cached.table.boxes, table.boxes)
            for record, path in zip(cached.records.tolist(), table.paths, strict=True):
                np.testing.assert_array_equal(store.read(record), shrink(DefaultImageLoader().read(path), size))
                assert store.facts(record).unchanged(path)
        beside = {path.name.removeprefix(self.folder.name) for path in self.root.glob(".yolo_cache_*")}
        assert beside == {"", ".lock"}


@pytest.fixture
def data(synthetic_data: Path, tmp_path: Path) -> Data:
    root = tmp_path / "data"
    shutil.copytree(synthetic_data, root)
    config = DataConfig(root=str(root), format="yolo", cache_labels=False)
    return Data(root, {split: load_labels(config, split) for split in ("train", "val")})


def stop_after(count: int, error: BaseException) -> Any:
    """A way to show progress that stops the work."""

    def track(items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == count:
                raise error
            yield item

    return track


@pytest.mark.parametrize("size", [(64, 48), None])
@pytest.mark.parametrize("encrypted", [False, True])
def test_every_picture_is_there_to_the_pixel(data: Data, size: tuple[int, int] | None, encrypted: bool) -> None:
    shown = []

    def track(items: Iterable[Any], text: str, total: int) -> Iterable[Any]:
        shown.append((text, total))
        return items

    store = data.build(settings=replace(RAW, size=size, encrypted=encrypted), track=track, sync=size is None)
    data.check(store, size)
    assert shown == [("Caching images", 24)]
    assert store.index.settings == replace(RAW, size=size, encrypted=encrypted)
    content = database_file(data.folder).read_bytes()
    assert (b"train_00003" in content) != encrypted


def test_each_image_is_stored_and_read_once(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo.data.cache.build.estimate_bytes", lambda *_: 0)
    paths = data.paths
    data.tables["test"] = data.tables["val"]
    loader = Counting()
    store = data.build(loader, workers=None)
    assert sorted(loader.asked) == sorted(paths)
    assert store.head.records == len(paths)
    assert set(store.index.splits) == {"train", "val", "test"}


def test_jpeg_is_smaller_and_near(data: Data) -> None:
    store = data.build(settings=replace(RAW, picture_format="jpeg", size=None))
    picture = DefaultImageLoader().read(data.paths[2])
    assert np.abs(store.read(2).astype(int) - picture).mean() < 4
    assert store.index.sizes_stored.sum() < picture.nbytes * len(data.paths) / 2


def test_a_picture_that_cannot_be_read_is_named_and_the_rest_is_kept(data: Data) -> None:
    broken = Path(data.paths[13])
    good = broken.read_bytes()
    broken.write_bytes(b"no picture")
    with pytest.raises(YoloError, match=rf"{broken.name}.*\(13 of 24 images are in the cache so far") as caught:
        data.build(workers=1)
    assert "\n" not in str(caught.value)
    assert read_head(data.folder) is None
    broken.write_bytes(good)
    loader = Counting()
    data.check(data.build(loader))
    assert str(broken) in loader.asked
    assert len(set(loader.asked) - {str(broken)}) <= 16 + 10  # the estimate's sample, and those behind it
    again = [path for path in data.paths[:13] if loader.asked.count(path) > 1]
    assert again == []


def test_ctrl_c_keeps_what_there_is(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo.data.cache.build.estimate_bytes", lambda *_: 0)
    with pytest.raises(KeyboardInterrupt):
        data.build(track=stop_after(10, KeyboardInterrupt()))
    assert read_head(data.folder) is None
    assert not (data.draft / "unsynced").exists()
    loader = Counting()
    data.check(data.build(loader))
    assert sorted(loader.asked) == sorted(data.paths[10:])


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_changed_or_damaged_record_is_made_again(
    data: Data, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolo.data.cache.build.estimate_bytes", lambda *_: 0)
    settings = replace(RAW, encrypted=encrypted)
    with pytest.raises(KeyboardInterrupt):
        data.build(settings=settings, track=stop_after(20, KeyboardInterrupt()))
    rewritten, touched = Path(data.paths[4]), Path(data.paths[5])
    rewritten.write_bytes(Path(data.paths[6]).read_bytes())
    touched.write_bytes(touched.read_bytes())
    with Writer(data.draft) as open_draft:
        record = bytearray(open_draft.get(record_label(8)) or b"")
        record[len(record) // 2] ^= 1
        moved = open_draft.get(record_label(11)) or b""
        open_draft.put_many([(record_label(8), bytes(record)), (record_label(10), moved)])
        open_draft.put_many([(record_label(1000), moved), (record_label(12), b"")])
    loader = Counting()
    store = data.build(loader, settings)
    data.check(store)
    assert sorted(loader.asked) == sorted(data.paths[i] for i in (4, 8, 10, 12, *range(20, 24)))


def test_another_plan_key_or_boot_starts_again(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo.data.cache.build.estimate_bytes", lambda *_: 0)
    encrypted = replace(RAW, encrypted=True)

    def interrupted(settings: CacheSettings = RAW, **options: Any) -> list[str]:
        loader = Counting()
        with pytest.raises(KeyboardInterrupt):
            data.build(loader, settings, track=stop_after(24, KeyboardInterrupt()), **options)
        return loader.asked

    def complete(self: draft.Draft, *_: Any, **__: Any) -> None:
        self.commit()
        raise KeyboardInterrupt

    monkeypatch.setattr(draft.Draft, "complete", complete)
    assert len(interrupted()) == 24
    assert interrupted() == []
    assert len(interrupted(fresh=True)) == 24
    assert len(interrupted(replace(RAW, size=(64, 64)))) == 24
    assert len(interrupted(replace(RAW, size=(64, 64), picture_format="jpeg"))) == 24
    assert len(interrupted(encrypted)) == 24
    assert interrupted(encrypted) == []
    assert len(interrupted(encrypted, key=Key(bytes(32)))) == 24
    assert len(interrupted()) == 24
    (data.draft / "unsynced").write_text("another boot of the machine")
    assert len(interrupted()) == 24
    database_file(data.draft).write_bytes(b"garbage" * 10_000)
    assert len(interrupted()) == 24


def test_a_complete_cache_is_replaced_only_by_a_complete_one(data: Data) -> None:
    data.build()
    other = replace(RAW, picture_format="jpeg")
    with pytest.raises(KeyboardInterrupt):
        data.build(settings=other, track=stop_after(10, KeyboardInterrupt()))
    before = CacheStore.open(data.folder, key=None)
    assert before.index.settings == RAW
    assert data.build(settings=other).index.settings == other
    data.check(data.build())


def test_the_map_grows_by_itself(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_FIRST_MAP", 1 << 16)
    monkeypatch.setattr(draft, "_ITEMS", 5)
    data.check(data.build(settings=replace(RAW, size=None)), None)
    assert database_file(data.folder).stat().st_size > 1 << 18


def test_no_more_is_read_than_the_writer_can_take(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo.data.cache.build.estimate_bytes", lambda *_: 0)
    loader, taken, ahead = Counting(), 0, []

    def slow(items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
        nonlocal taken
        for item in items:
            time.sleep(0.005)
            ahead.append(len(loader.asked) - taken)
            taken += 1
            yield item

    data.build(loader, track=slow, workers=2)
    assert max(ahead) <= 2 * 2 + 1


def test_a_second_creator_is_told_and_the_first_finishes(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo.data.cache.build.estimate_bytes", lambda *_: 0)
    started, go_on = threading.Event(), threading.Event()

    def wait(path: str) -> None:
        started.set()
        assert go_on.wait(20)

    results: list[CacheStore] = []
    first = threading.Thread(target=lambda: results.append(data.build(Counting(before=wait))), daemon=True)
    first.start()
    try:
        assert started.wait(20)
        with pytest.raises(CacheBusyError, match=r"another process is building the cache .*: wait until"):
            data.build()
    finally:
        go_on.set()
        first.join(20)
    data.check(results[0])
    data.check(data.build())
