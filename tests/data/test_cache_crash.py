"""Killed creators, full disks and folders that cannot be written: nothing half made is ever read, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo.data.cache import promote
from yolo.data.cache.head import read_head
from yolo.data.cache.plan import shrink
from yolo.data.cache.promote import heal
from yolo.data.cache.readers import close_all
from yolo.data.cache.store import CacheStore
from yolo.data.config import DataConfig
from yolo.data.encryption.keys import Key
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loaders import DefaultImageLoader
from yolo.data.loaders.base import Pixels
from yolo.data.synthetic import ensure_synthetic

KEY = Key(bytes(range(32)))
NAME = ".yolo_cache_64x64_f1.0"
Serve = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 120 pictures."""
    return ensure_synthetic(tmp_path_factory.mktemp("crash") / "data", train=90, val=30, image_size=96)


@pytest.fixture(scope="module")
def tables(root: Path) -> dict[str, LabelTable]:
    config = DataConfig(root=str(root), format="yolo", cache_labels=False)
    return {split: load_labels(config, split) for split in ("train", "val")}


@pytest.fixture(scope="module")
def expected(tables: dict[str, LabelTable]) -> dict[str, Pixels]:
    loader = DefaultImageLoader()
    return {path: shrink(loader.read(path), (64, 64)) for table in tables.values() for path in table.paths}


@pytest.fixture(scope="module")
def creator() -> Iterator[Serve]:
    """The process whose children build caches, see cache_creator.py."""
    script = Path(__file__).with_name("cache_creator.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def answer() -> Any:
        ready, _, _ = select.select([process.stdout], [], [], 120)
        assert ready, "the creator hangs"
        assert process.stdout is not None
        return json.loads(process.stdout.readline())

    def serve(**request: Any) -> dict[str, Any]:
        assert process.stdin is not None
        process.stdin.write(json.dumps(request, default=str) + "\n")
        process.stdin.flush()
        result: dict[str, Any] = answer()
        return result

    assert answer() == "ready"
    try:
        yield serve
    finally:
        process.kill()
        process.communicate(timeout=20)


def check(folder: Path, expected: dict[str, Pixels], root: Path, *, encrypted: bool) -> None:
    """The cache is complete, and every byte of it is what a run without a kill makes."""
    store = CacheStore.open(folder, key=KEY if encrypted else None)
    index = store.index
    assert [str(root / path) for path in index.paths] == list(expected)
    for record, picture in enumerate(expected.values()):
        np.testing.assert_array_equal(store.read(record), picture)
    assert sum(len(split.records) for split in index.splits.values()) == len(expected)
    close_all()


def kill_and_run_again(
    moments: int, seed: int, tmp_path: Path, root: Path, expected: dict[str, Pixels], creator: Serve
) -> None:
    first = creator(root=root, folder=tmp_path / "first" / NAME, items=1)
    assert first["ends"] == [{"code": 0, "text": ""}]
    rng = random.Random(seed)
    killed = resumed = 0
    for moment in range(moments):
        folder, encrypted = tmp_path / str(moment) / NAME, moment % 2 == 1
        request = {"root": root, "folder": folder, "encrypted": encrypted, "items": 1}
        if moment % 3 == 2:  # there is a cache of other settings already
            assert creator(**(request | {"format": "jpeg"}))["ends"][0]["code"] == 0
        for _ in range(1 + moment % 2):  # some are killed twice
            end = creator(**request, delay=rng.uniform(0, 1.1) * first["seconds"])["ends"][0]
            killed += end["code"] == -signal.SIGKILL
            heal(folder)
            head = read_head(folder)
            assert head is None or head.complete
            if moment % 3 == 2:
                assert head is not None
            if head is not None:
                key = KEY if head.encrypted else None
                assert CacheStore.open(folder, key=key).read(119).shape == (64, 64, 3)
            close_all()
        resumed += folder.with_name(f"{NAME}.partial").exists()
        assert creator(**request)["ends"] == [{"code": 0, "text": ""}]
        check(folder, expected, root, encrypted=encrypted)
        assert {path.name.removeprefix(NAME) for path in folder.parent.iterdir()} == {"", ".lock"}
        shutil.rmtree(folder.parent)
    assert killed
    assert resumed


def test_killed_at_5_moments(tmp_path: Path, root: Path, expected: dict[str, Pixels], creator: Serve) -> None:
    kill_and_run_again(5, 20261, tmp_path, root, expected, creator)


@pytest.mark.slow
def test_killed_at_50_moments(tmp_path: Path, root: Path, expected: dict[str, Pixels], creator: Serve) -> None:
    kill_and_run_again(50, 20262, tmp_path, root, expected, creator)


def test_ctrl_c_ends_at_once_and_keeps_what_there_is(
    tmp_path: Path, root: Path, expected: dict[str, Pixels], creator: Serve
) -> None:
    folder = tmp_path / NAME
    whole = creator(root=root, folder=tmp_path / "first" / NAME)["seconds"]
    end = creator(root=root, folder=folder, delay=whole / 2, signal=signal.SIGINT)["ends"][0]
    assert end["code"] in (0, 3), end
    if end["code"] == 3:
        assert end["text"].startswith("KeyboardInterrupt")
        assert read_head(folder) is None
    assert creator(root=root, folder=folder)["ends"][0]["code"] == 0
    check(folder, expected, root, encrypted=False)


def test_of_two_creators_one_is_told_and_one_finishes(
    tmp_path: Path, root: Path, expected: dict[str, Pixels], creator: Serve
) -> None:
    folder = tmp_path / NAME
    ends = sorted(creator(root=root, folder=folder, children=2, items=1)["ends"], key=lambda end: end["code"])
    assert ends[0]["code"] == 0
    assert ends[1]["code"] == 3, "both worked at the same time"
    assert ends[1]["text"].startswith("CacheBusyError: another process is building the cache")
    check(folder, expected, root, encrypted=False)


class Killed(BaseException):
    """Stands for kill -9 at one step of the exchange."""


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("step", range(7))
def test_killed_while_the_folders_are_exchanged(
    old: bool, step: int, tmp_path: Path, root: Path, expected: dict[str, Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / NAME
    steps = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == step + 1:
                raise Killed
            return function(*arguments, **options)

        return call

    make_empty(folder.with_name(f"{NAME}.partial"), "new")
    if old:
        make_empty(folder, "old")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", counted(Path.rename))
        patched.setattr(Path, "unlink", counted(Path.unlink))
        patched.setattr(shutil, "rmtree", counted(shutil.rmtree))
        patched.setattr(os, "unlink", counted(os.unlink))
        patched.setattr(os, "rmdir", counted(os.rmdir))
        patched.setattr(promote, "_sync", counted(promote._sync))
        with suppress(Killed):
            heal(folder)
    close_all()
    heal(folder)
    head = read_head(folder)
    assert head is not None
    assert (folder / "which").read_text() == "new"
    assert {path.name.removeprefix(NAME) for path in tmp_path.iterdir()} == {"", ".lock"}


def make_empty(folder: Path, which: str) -> None:
    """A cache without pictures."""
    from yolo.data.cache.head import HEAD, Head
    from yolo.data.cache.writer import Writer

    with Writer(folder) as writer:
        writer.put_many([(HEAD, Head.new(key=None, records=0, complete=True).as_json())])
    (folder / "which").write_text(which)


def test_what_was_put_aside_comes_back_when_there_is_nothing_better(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    make_empty(folder.with_name(f"{NAME}.old"), "old")
    (folder.with_name(f"{NAME}.partial") / "cache.lmdb").mkdir(parents=True)
    (folder.with_name(f"{NAME}.copy") / "cache.lmdb").mkdir(parents=True)
    heal(folder)
    assert (folder / "which").read_text() == "old"
    assert not folder.with_name(f"{NAME}.copy").exists()


def test_nothing_is_done_to_a_cache_that_is_fine(tmp_path: Path) -> None:
    make_empty(tmp_path / NAME, "only")
    heal(tmp_path / NAME)
    assert {path.name for path in tmp_path.iterdir()} == {NAME}
