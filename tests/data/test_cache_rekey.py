"""``cache-rekey``: the same cache under another key, or the old one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache import rekey as rekey_module
from yolo.data.cache.errors import CacheError, DamagedRecordError, WrongCacheKeyError
from yolo.data.cache.promote import CacheBusyError, building
from yolo.data.cache.readers import close_all, database_file
from yolo.data.cache.rekey import rekey_cache
from yolo.data.cache.seal import record_label
from yolo.data.cache.store import CacheStore
from yolo.data.cache.use import fill_cache
from yolo.data.cache.verify import verify_cache
from yolo.data.cache.writer import Writer
from yolo.data.config import DataConfig
from yolo.data.encryption import Key, keys
from yolo.data.formats import load_labels

OLD, NEW = "0123456789abcdef" * 4, "fedcba9876543210" * 4
NAME = ".yolo_cache_96x96_f1.0"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())  # keys are handed on through it


@pytest.fixture(scope="module")
def original(made_cache: Callable[..., Path]) -> Path:
    return made_cache("train", "val", cache_encrypt=True, encryption_key=OLD)


@pytest.fixture
def cache(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / NAME))


@pytest.fixture
def old() -> Key:
    return keys.parse_key(OLD, source="test")


@pytest.fixture
def new() -> Key:
    return keys.parse_key(NEW, source="test")


def test_everything_is_the_same_but_the_key(cache: Path, original: Path, old: Key, new: Key) -> None:
    rekey_cache(cache, old, new)
    first, second = CacheStore.open(original, key=old), CacheStore.open(cache, key=new)
    assert first.head.cache_id != second.head.cache_id
    assert second.head.key_id == new.id
    assert list(first.index.paths) == list(second.index.paths)
    assert first.index.settings == second.index.settings
    for split, part in first.index.splits.items():
        assert part.table.fingerprint() == second.index.splits[split].table.fingerprint()
        assert part.records.tolist() == second.index.splits[split].records.tolist()
    for number in range(24):
        assert np.array_equal(first.read(number), second.read(number))
        assert first.facts(number) == second.facts(number)
    assert verify_cache(cache, new).damaged == ()
    with pytest.raises(WrongCacheKeyError):
        verify_cache(cache, old)
    assert {path.name for path in cache.parent.iterdir()} == {NAME}, "nothing is left behind"


def test_no_value_is_taken_over_as_it_was(cache: Path, original: Path, old: Key, new: Key) -> None:
    rekey_cache(cache, old, new)
    data = database_file(cache).read_bytes()
    with Writer(Path(shutil.copytree(original, cache.parent / "copy"))) as writer:
        assert all(value[-64:] not in data for _, value in writer.items(b"r"))


def test_wrong_keys_and_caches_are_refused_and_change_nothing(
    cache: Path, tmp_path: Path, synthetic_data: Path, old: Key, new: Key
) -> None:
    before = database_file(cache).read_bytes()
    with pytest.raises(WrongCacheKeyError):
        rekey_cache(cache, new, old)
    with pytest.raises(UsageError, match="is the old one"):
        rekey_cache(cache, old, old)
    with building(cache), pytest.raises(CacheBusyError):
        rekey_cache(cache, old, new)
    with pytest.raises(CacheError):
        rekey_cache(tmp_path / "missing", old, new)
    assert database_file(cache).read_bytes() == before
    config = DataConfig(
        root=str(synthetic_data), format="yolo", image_size=96, cache_images="disk", cache_dir=str(tmp_path / "plain")
    )
    fill_cache(config, {"val": load_labels(config, "val")})
    with pytest.raises(UsageError, match=r"not encrypted.*--encrypt"):
        rekey_cache(tmp_path / "plain" / NAME, old, new)


def test_a_damaged_cache_keeps_its_key(cache: Path, old: Key, new: Key) -> None:
    with Writer(cache) as writer:
        writer.put_many([(record_label(5), b"x" * 200)])
    with pytest.raises(DamagedRecordError):
        rekey_cache(cache, old, new)
    assert len(verify_cache(cache, old).damaged) == 1
    assert {path.name for path in cache.parent.iterdir()} == {NAME}


def test_a_disk_that_is_too_small_is_told_before(
    cache: Path, old: Key, new: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(folder: Path, needed: int) -> None:
        raise YoloError(f"{needed} bytes")

    monkeypatch.setattr(rekey_module, "check_disk", small)
    with pytest.raises(YoloError, match=f"{database_file(cache).stat().st_size} bytes"):
        rekey_cache(cache, old, new)


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_kill_leaves_the_old_or_the_new(cache: Path, old: Key, new: Key, rounds: int) -> None:
    def slowly(items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
        for item in items:
            time.sleep(0.01)
            yield item

    chance = random.Random(3)
    close_all()
    for _ in range(rounds):
        child = os.fork()
        if child == 0:
            try:
                rekey_cache(cache, old, new, track=slowly)
            finally:
                os._exit(0)
        time.sleep(chance.uniform(0.02, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            assert verify_cache(cache, old).damaged == ()
        except WrongCacheKeyError:
            assert verify_cache(cache, new).damaged == ()
            old, new = new, old
        close_all()
    rekey_cache(cache, old, new)
    assert verify_cache(cache, new).damaged == ()
    assert {path.name for path in cache.parent.iterdir()} == {NAME}
