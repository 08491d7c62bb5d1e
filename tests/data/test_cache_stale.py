"""When a cache is built anew, with what message, and when not."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from yolo.core.errors import YoloError
from yolo.data.cache import pictures, refresh, resources, stale
from yolo.data.cache.build import build_cache, refresh_labels
from yolo.data.cache.errors import CacheError
from yolo.data.cache.settings import CacheSettings, cache_folder
from yolo.data.cache.stale import examine, labels_changed, look_at_files, reason_to_rebuild
from yolo.data.cache.store import CacheStore
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loaders import DefaultImageLoader

OLD_AND_NEW = pytest.mark.parametrize("cached", ["old files", "new files"], indirect=True)


@dataclass
class Cached:
    """A small data set with a cache."""

    root: Path
    config: DataConfig
    folder: Path

    def tables(self, *splits: str) -> dict[str, LabelTable]:
        return {split: load_labels(self.config, split) for split in splits or ("train", "val")}

    def build(self, *splits: str) -> None:
        settings = CacheSettings.of(self.config)
        build_cache(self.folder, settings, self.tables(*splits), root=self.root, loader=DefaultImageLoader(), workers=2)

    def reason(self, config: DataConfig | None = None, *splits: str) -> str | None:
        store = CacheStore.open(self.folder, key=None)
        settings = CacheSettings.of(config or self.config)
        return reason_to_rebuild(store.head, store.index, settings, self.tables(*splits), self.root)

    def image(self, number: int = 3) -> Path:
        return self.root / f"images/train/train_{number:05d}.jpg"


@pytest.fixture
def cached(
    request: pytest.FixtureRequest, synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Cached:
    """A data set whose files count as old, unless the test asks for new ones, whose times are not trusted."""
    if getattr(request, "param", "old files") == "old files":
        monkeypatch.setattr(pictures, "_COARSEST_CLOCK_NS", -(10**18))
    root = tmp_path / "data"
    shutil.copytree(synthetic_data, root)
    config = DataConfig(root=str(root), format="yolo", image_size=64, cache_labels=False)
    cached = Cached(root, config, cache_folder(config))
    cached.build()
    return cached


@OLD_AND_NEW
def test_a_fresh_cache_fits(cached: Cached) -> None:
    assert cached.reason() is None
    assert cached.reason(None, "val") is None


def test_another_version(cached: Cached) -> None:
    store = CacheStore.open(cached.folder, key=None)
    settings = CacheSettings.of(cached.config)
    for version in ("4.0.0", "unknown"):
        head = replace(store.head, version=version, encrypted=True)
        expected = f"version changed ({version} → 5.0.0)"
        assert reason_to_rebuild(head, None, settings, cached.tables(), cached.root) == expected


def test_another_picture_format(cached: Cached) -> None:
    assert cached.reason(replace(cached.config, cache_format="raw")) == "format changed (jpeg → raw)"


def test_another_encryption(cached: Cached) -> None:
    store = CacheStore.open(cached.folder, key=None)
    settings, encrypted = CacheSettings.of(cached.config), replace(cached.config, cache_encrypt=True)
    assert cached.reason(encrypted) == "encryption changed (unencrypted → encrypted)"
    head = replace(store.head, encrypted=True)
    expected = "encryption changed (encrypted → unencrypted)"
    assert reason_to_rebuild(head, None, settings, cached.tables(), cached.root) == expected


@pytest.mark.parametrize("change", [{"image_size": 96}, {"cache_resize_images": False}, {"data_fraction": 0.5}])
def test_another_size_or_fraction(cached: Cached, change: dict[str, object]) -> None:
    store = CacheStore.open(cached.folder, key=None)
    settings = CacheSettings.of(replace(cached.config, **change))
    reason = reason_to_rebuild(store.head, store.index, settings, cached.tables(), cached.root)
    assert reason == "settings changed (size/fraction)"


def test_more_and_fewer_images(cached: Cached) -> None:
    shutil.copy(cached.image(3), cached.root / "images/train/another.jpg")
    shutil.copy(cached.root / "labels/train/train_00003.txt", cached.root / "labels/train/another.txt")
    assert cached.reason() == "image count changed (24 → 25)"
    (cached.root / "images/train/another.jpg").unlink()
    cached.image(3).unlink()
    assert cached.reason() == "image count changed (24 → 23)"


def test_counts_have_thousands_separators(cached: Cached) -> None:
    store, tables = CacheStore.open(cached.folder, key=None), cached.tables("train")
    many = {"train": tables["train"].select(np.zeros(117_266, np.intp))}
    few = replace(store.index, splits={"train": replace(store.index.splits["train"], table=many["train"])})
    fewer = {"train": many["train"].select(np.arange(100_000))}
    settings = CacheSettings.of(cached.config)
    found = reason_to_rebuild(store.head, few, settings, fewer, cached.root)
    assert found == "image count changed (117,266 → 100,000)"


def test_a_renamed_image(cached: Cached) -> None:
    cached.image(3).rename(cached.image(3).with_stem("renamed"))
    label = cached.root / "labels/train/train_00003.txt"
    label.rename(label.with_stem("renamed"))
    assert cached.reason() == "image files changed"


@OLD_AND_NEW
def test_an_image_with_other_contents(cached: Cached) -> None:
    cached.image(3).write_bytes(cached.image(4).read_bytes())
    assert cached.reason() == "image files changed"


@OLD_AND_NEW
def test_an_image_rewritten_with_the_same_size_and_time(cached: Cached) -> None:
    path = cached.image(3)
    facts, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_mtime_ns == facts.st_mtime_ns
    assert cached.reason() == "image files changed"


@OLD_AND_NEW
def test_a_touched_image_does_not_count(cached: Cached) -> None:
    os.utime(cached.image(3))
    shutil.copy2(cached.image(4), cached.root / "copy.jpg")
    (cached.root / "copy.jpg").replace(cached.image(4))
    assert cached.reason() is None


@pytest.mark.parametrize(
    "change", [{"batch_size": 3}, {"num_workers": 1}, {"cache_max_memory_gb": 1.0}, {"jpeg_quality": 50}]
)
def test_settings_that_do_not_count(cached: Cached, change: dict[str, object]) -> None:
    assert cached.reason(replace(cached.config, **change)) is None


def test_a_moved_data_set_keeps_its_cache(cached: Cached) -> None:
    root = cached.root.rename(cached.root.with_name("moved"))
    config = replace(cached.config, root=str(root))
    assert Cached(root, config, cache_folder(config)).reason() is None


def test_a_cache_may_hold_more_splits_than_asked_for(cached: Cached) -> None:
    assert cached.reason(None, "val") is None
    cached.build("val")
    assert cached.reason(None, "val") is None
    assert cached.reason(None, "train", "val") == "image count changed (8 → 24)"


def test_images_that_only_moved_between_splits_are_good(cached: Cached) -> None:
    tables = cached.tables()
    swapped = {"train": tables["train"].select(np.arange(15)), "val": tables["train"].select(np.arange(7, 16))}
    store = CacheStore.open(cached.folder, key=None)
    verdict = examine(store.head, store.index, CacheSettings.of(cached.config), swapped, cached.root)
    assert (verdict.reason, verdict.labels_changed, verdict.needs_refresh) == (None, True, True)
    assert refresh_labels(cached.folder, swapped, root=cached.root)
    index = CacheStore.open(cached.folder, key=None).index
    assert not labels_changed(index, swapped, cached.root)
    assert [index.paths[record] for record in index.splits["val"].records] == list(index.splits["val"].table.paths)


@OLD_AND_NEW
def test_changed_labels_are_replaced_without_new_pictures(cached: Cached) -> None:
    before = CacheStore.open(cached.folder, key=None)
    index, pixels = before.index, before.read(3)
    label = cached.root / "labels/train/train_00003.txt"
    label.write_text("0 0.5 0.5 0.25 0.25\n")
    assert cached.reason() is None
    tables = cached.tables("train")
    assert labels_changed(index, tables, cached.root)
    assert not labels_changed(index, cached.tables("val"), cached.root)
    assert refresh_labels(cached.folder, tables, root=cached.root)
    after = CacheStore.open(cached.folder, key=None)
    assert not labels_changed(after.index, cached.tables(), cached.root)
    assert after.index.splits["train"].table.targets(3).boxes.tolist() == [[36, 36, 60, 60]]
    np.testing.assert_array_equal(after.index.checks, index.checks)
    np.testing.assert_array_equal(after.read(3), pixels)
    assert set(after.index.splits) == {"train", "val"}
    assert cached.reason() is None


def test_a_cache_that_needs_new_pictures_is_not_refreshed(cached: Cached) -> None:
    cached.image(3).write_bytes(cached.image(4).read_bytes())
    with pytest.raises(ValueError, match="image files changed"):
        refresh_labels(cached.folder, cached.tables(), root=cached.root)


def test_a_cache_that_another_process_replaced_is_left_alone(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    (cached.root / "labels/train/train_00003.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    tables, before = cached.tables(), CacheStore.open(cached.folder, key=None)
    assert before.index
    with monkeypatch.context() as patched:
        patched.setattr(refresh.CacheStore, "open", lambda *_, **__: before)
        cached.build("val")
        with pytest.raises(CacheError, match="replaced by another process"):
            refresh_labels(cached.folder, tables, root=cached.root)
    assert set(CacheStore.open(cached.folder, key=None).index.splits) == {"val"}


def test_times_that_cannot_be_written_are_no_error_but_labels_are(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(cached.image(3), ns=(1, 1))
    monkeypatch.setattr(resources, "free_disk", lambda _: 0)
    assert not refresh_labels(cached.folder, cached.tables(), root=cached.root)
    (cached.root / "labels/train/train_00003.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    with pytest.raises(YoloError, match="its disk has"):
        refresh_labels(cached.folder, cached.tables(), root=cached.root)
    assert cached.reason() is None


def test_unchanged_files_are_not_read_and_touched_ones_only_once(
    synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_COARSEST_CLOCK_NS", -(10**18))
    root = tmp_path / "data"
    shutil.copytree(synthetic_data, root)
    config = DataConfig(root=str(root), format="yolo", image_size=64, cache_labels=False)
    cached = Cached(root, config, cache_folder(config))
    cached.build()
    hashed = []
    real = pictures.SourceFacts.of
    monkeypatch.setattr(stale.SourceFacts, "of", staticmethod(lambda path: hashed.append(str(path)) or real(path)))
    assert cached.reason() is None
    assert hashed == []
    os.utime(cached.image(3), ns=(1, 1))
    assert cached.reason() is None
    assert hashed == [str(cached.image(3))]
    assert refresh_labels(cached.folder, cached.tables(), root=root)
    hashed.clear()
    assert cached.reason() is None
    assert hashed == []
    assert not refresh_labels(cached.folder, cached.tables(), root=root)


def test_looking_at_100_000_files_is_quick(synthetic_data: Path) -> None:
    paths = [str(path) for path in sorted((synthetic_data / "images").rglob("*.jpg"))]
    paths.append(str(synthetic_data / "not there.jpg"))
    paths.append(str(synthetic_data))
    many = paths * (100_000 // len(paths))
    start = time.perf_counter()
    found = look_at_files(many)
    assert time.perf_counter() - start < 5
    assert found.shape == (len(many), 3)
    facts = Path(paths[5]).stat()
    assert found[len(paths) + 5].tolist() == [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    assert not found[len(paths) - 2 : len(paths)].any()
