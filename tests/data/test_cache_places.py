"""Places that a cache cannot be built in, and data sets that it cannot be built of: told clearly, nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache import build, draft, make, promote
from yolo.data.cache.build import build_cache
from yolo.data.cache.errors import CacheError, CacheFullError
from yolo.data.cache.head import read_head
from yolo.data.cache.promote import CacheBusyError, building, heal
from yolo.data.cache.readers import close_all
from yolo.data.cache.settings import CacheSettings
from yolo.data.cache.store import CacheStore
from yolo.data.config import DataConfig
from yolo.data.encryption.keys import Key
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loaders import EncryptedImageLoader, ImageLoader
from yolo.data.loaders.base import Pixels
from yolo.data.synthetic import ensure_synthetic

NAME = ".yolo_cache_orig_f1.0"
KEY = Key(bytes(range(32)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 120 pictures."""
    return ensure_synthetic(tmp_path_factory.mktemp("places") / "data", train=90, val=30, image_size=32)


@pytest.fixture(scope="module")
def tables(root: Path) -> dict[str, LabelTable]:
    config = DataConfig(root=str(root), format="yolo", cache_labels=False)
    return {split: load_labels(config, split) for split in ("train", "val")}


class Noise(ImageLoader):
    """Pictures of 256 kB that cannot be compressed."""

    def __call__(self, path: str) -> Pixels:
        seed = int.from_bytes(path[-9:].encode(), "big")
        return np.random.default_rng(seed).integers(0, 256, (256, 341, 3)).astype(np.uint8)


RAW = CacheSettings("yolo", "raw", 95, None, 1.0, encrypted=False)


def build_noise(folder: Path, tables: dict[str, LabelTable], root: Path, **options: Any) -> CacheStore:
    build_cache(folder, RAW, tables, root=root, loader=Noise(), workers=2, **options)
    return CacheStore.open(folder, key=None)


def check_noise(store: CacheStore, root: Path) -> None:
    loader = Noise()
    assert len(store.index.paths) == 120
    for record, path in enumerate(store.index.paths):
        np.testing.assert_array_equal(store.read(record), loader(str(root / path)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 8 MB; only root may make one."""
    place = tmp_path / "small"
    place.mkdir()
    made = shutil.which("mount") and os.geteuid() == 0
    if (
        not made
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False, timeout=20
        ).returncode
    ):
        pytest.skip("a small file system cannot be mounted here: that takes root and the mount command")
    try:
        yield place
    finally:
        close_all()
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=20)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True, timeout=20)


def test_a_full_disk_is_told_and_nothing_is_lost(
    small_disk: Path, root: Path, tables: dict[str, LabelTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_disk / NAME
    monkeypatch.setattr(draft, "_BYTES", 1 << 20)
    with pytest.raises(YoloError, match=r"needs about 3\d\.\d MB more, but its disk has \d\.\d MB free"):
        build_noise(folder, tables, root)
    assert not folder.with_name(f"{NAME}.partial").exists()
    with monkeypatch.context() as patched:
        patched.setattr(build, "estimate_bytes", lambda *_: 0)
        for _ in range(2):
            with pytest.raises(CacheFullError, match=r"the disk is full.*data\.cache_dir.*goes on") as caught:
                build_noise(folder, tables, root)
            assert "\n" not in str(caught.value)
            assert read_head(folder) is None
    remount(small_disk, "size=64m")
    made = []
    real = make.make_record
    monkeypatch.setattr(build, "make_record", lambda number, **options: made.append(number) or real(number, **options))
    check_noise(build_noise(folder, tables, root), root)
    assert 80 < len(made) < 110


def test_a_limit_on_the_size_of_files_is_told_and_nothing_is_lost(
    tmp_path: Path, root: Path, tables: dict[str, LabelTable]
) -> None:
    folder = tmp_path / NAME
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, hard))
    try:
        with pytest.raises(CacheError, match=NAME):
            build_noise(folder, tables, root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_head(folder) is None
    check_noise(build_noise(folder, tables, root), root)


def test_a_full_disk_leaves_the_old_cache_usable(
    small_disk: Path, root: Path, tables: dict[str, LabelTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_disk / NAME
    few = {"train": tables["train"].select(np.arange(8))}
    build_noise(folder, few, root)
    monkeypatch.setattr(build, "estimate_bytes", lambda *_: 0)
    with pytest.raises(CacheFullError):
        build_noise(folder, tables, root)
    store = CacheStore.open(folder, key=None)
    assert [store.read(record).shape for record in range(8)] == [(256, 341, 3)] * 8


def test_a_read_only_folder_is_told(small_disk: Path, root: Path, tables: dict[str, LabelTable]) -> None:
    folder = small_disk / NAME
    few = {"train": tables["train"].select(np.arange(8))}
    build_noise(folder, few, root)
    (small_disk / "empty").mkdir()
    remount(small_disk, "ro")
    heal(folder)
    with pytest.raises(YoloError, match=r"cannot be written into .*: Read-only file system; set data\.cache_dir"):
        build_noise(small_disk / "empty" / NAME, few, root)
    with pytest.raises(YoloError, match="Read-only file system"):
        build_noise(folder, few, root)
    assert CacheStore.open(folder, key=None).read(3).shape == (256, 341, 3)


def test_a_folder_without_the_right_to_write_is_told(
    tmp_path: Path, root: Path, tables: dict[str, LabelTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    place.chmod(0o555)
    if os.geteuid() == 0:  # may write everywhere

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(promote.FileLock, "acquire", refuse)
    with pytest.raises(YoloError, match=r"cannot be written into .*mine: Permission denied; set data\.cache_dir"):
        build_noise(place / NAME, tables, root)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, root: Path, tables: dict[str, LabelTable]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(YoloError, match=r"cannot be written into .*file.*data\.cache_dir"):
        build_noise(tmp_path / "file" / NAME, tables, root)
    with pytest.raises(YoloError, match=r"is a file.*remove the file"):
        build_noise(tmp_path / "file", tables, root)


def test_a_link_to_another_disk_stays_a_link(tmp_path: Path, root: Path, tables: dict[str, LabelTable]) -> None:
    (tmp_path / "fast").mkdir()
    folder = tmp_path / NAME
    folder.symlink_to(tmp_path / "fast/cache", target_is_directory=True)
    for _ in range(2):
        build_noise(folder, {"val": tables["val"]}, root)
        assert folder.is_symlink()
        assert {path.name for path in (tmp_path / "fast").iterdir()} == {"cache", "cache.lock"}


def test_nothing_decrypted_is_cached_in_clear(tmp_path: Path, root: Path, tables: dict[str, LabelTable]) -> None:
    options: dict[str, Any] = {"root": root, "loader": EncryptedImageLoader()}
    with pytest.raises(UsageError, match=r"data\.cache_encrypt"):
        build_cache(tmp_path / NAME, RAW, tables, **options)
    encrypted = replace(RAW, encrypted=True)
    with pytest.raises(UsageError, match="YOLO_ENCRYPTION_KEY"):
        build_cache(tmp_path / NAME, encrypted, tables, **options)
    build_cache(tmp_path / NAME, encrypted, tables, **options, key=KEY)
    assert CacheStore.open(tmp_path / NAME, key=KEY).read(3).shape == (32, 32, 3)


def test_an_empty_data_set_and_too_little_memory(tmp_path: Path, root: Path, tables: dict[str, LabelTable]) -> None:
    with pytest.raises(UsageError, match="cache_max_memory_gb allows 1e-06 GB"):
        build_noise(tmp_path / NAME, tables, root, memory_limit_gb=1e-6)
    with pytest.raises(YoloError, match="no image"):
        build_noise(tmp_path / NAME, {"train": tables["train"].select(np.zeros(0, np.intp))}, root)
    assert not list(tmp_path.glob("*.partial"))


def test_who_holds_the_lock_is_alone(tmp_path: Path) -> None:
    with building(tmp_path / "cache"), pytest.raises(CacheBusyError), building(tmp_path / "cache"):
        pass
    with building(tmp_path / "cache"):
        pass
