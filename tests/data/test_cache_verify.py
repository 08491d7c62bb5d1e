"""``cache-verify``: every damaged record is found and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from yolo.data.cache.errors import CacheError, DamagedCacheError, MissingCacheKeyError, WrongCacheKeyError
from yolo.data.cache.readers import database_file
from yolo.data.cache.seal import record_label
from yolo.data.cache.store import CacheStore
from yolo.data.cache.verify import verify_cache
from yolo.data.cache.writer import Writer
from yolo.data.commands.cache_verify import cache_verify
from yolo.data.encryption import VARIABLE, Key, keys

SECRET, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4


@pytest.fixture(scope="module")
def originals(made_cache: Callable[..., Path]) -> dict[bool, Path]:
    """A cache in clear and an encrypted one."""
    return {
        encrypted: made_cache("train", "val", cache_encrypt=encrypted, encryption_key=SECRET)
        for encrypted in (False, True)
    }


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def cache(request: pytest.FixtureRequest, originals: dict[bool, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[request.param], tmp_path / originals[request.param].name))


@pytest.fixture
def key() -> Key:
    return keys.parse_key(SECRET, source="test")


def stored(folder: Path, number: int) -> bytes:
    with Writer(folder) as writer:
        value = writer.get(record_label(number))
    assert value is not None
    return value


def store(folder: Path, number: int, value: bytes) -> None:
    with Writer(folder) as writer:
        writer.put_many([(record_label(number), value)])


def test_a_good_cache_is_good(cache: Path, key: Key) -> None:
    report = verify_cache(cache, key)
    assert (report.records, report.damaged, report.exit_code) == (24, (), 0)


def test_every_kind_of_damage_is_found_and_named(cache: Path, key: Key) -> None:
    value = {number: stored(cache, number) for number in range(6)}
    flipped = bytearray(value[1])
    flipped[len(flipped) // 2] ^= 4
    store(cache, 1, bytes(flipped))
    store(cache, 2, value[2][:-7])
    store(cache, 3, value[4])
    store(cache, 4, value[3])
    with Writer(cache) as writer:
        writer.delete([record_label(5)])
    store(cache, 20, b"")
    report = verify_cache(cache, key)
    paths = CacheStore.open(cache, key=key).index.paths
    assert [one.path for one in report.damaged] == [paths[number] for number in (1, 2, 3, 4, 5, 20)]
    assert all(one.reason and "\n" not in one.reason for one in report.damaged)
    assert report.exit_code == 1


def test_an_older_record_put_back_is_found(cache: Path, key: Key) -> None:
    # what a record was in an earlier state of the same cache: it opens, and yet it is not the one of the index
    opened = CacheStore.open(cache, key=key)
    seal = opened.head.seal(key, cache)
    content = bytes(seal.open(stored(cache, 7), record_label(7)))
    older = bytearray(content)
    older[20] ^= 1
    store(cache, 7, seal.close(bytes(older), record_label(7)))
    assert [one.path for one in verify_cache(cache, key).damaged] == [opened.index.paths[7]]


def test_a_cut_or_changed_file_is_an_error_and_no_crash(cache: Path, key: Key) -> None:
    size = database_file(cache).stat().st_size
    os.truncate(database_file(cache), size // 2)
    with pytest.raises(DamagedCacheError):
        verify_cache(cache, key)
    os.truncate(database_file(cache), 0)
    with pytest.raises(CacheError):
        verify_cache(cache, key)


def test_the_wrong_key_is_told_from_damage(originals: dict[bool, Path]) -> None:
    with pytest.raises(WrongCacheKeyError, match="WRONG KEY"):
        verify_cache(originals[True], keys.parse_key(OTHER, source="test"))
    with pytest.raises(MissingCacheKeyError, match=VARIABLE):
        verify_cache(originals[True], None)


def test_the_command_reports(originals: dict[bool, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals[False], tmp_path / originals[False].name))
    done = CliRunner().invoke(cache_verify, ["--cache-dir", str(folder)])
    assert (done.exit_code, "Images: 24, damaged: 0" in done.output) == (0, True)
    for number in range(22):
        store(folder, number, stored(folder, number)[:-1])
    done = CliRunner().invoke(cache_verify, ["--cache-dir", str(folder)])
    assert (done.exit_code, "Images: 24, damaged: 22" in done.output) == (1, True)
    assert "and 2 more" in done.output
    done = CliRunner().invoke(cache_verify, ["--cache-dir", str(folder), "--json"])
    facts = json.loads(done.stdout)
    assert (done.exit_code, facts["ok"], facts["records"], len(facts["damaged"])) == (1, False, 24, 22)
