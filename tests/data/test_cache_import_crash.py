"""Import and export of caches, killed at random moments."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from yolo.data.cache.archive import export_cache, import_cache
from yolo.data.cache.promote import building
from yolo.data.cache.readers import database_file
from yolo.data.cache.tar import CHUNK

NAME = ".yolo_cache_96x96_f1.0"


@pytest.fixture(scope="module")
def original(made_cache: Callable[..., Path]) -> Path:
    """A complete cache."""
    return made_cache("train", "val")


@pytest.fixture
def cache(original: Path, tmp_path: Path) -> Path:
    """A copy of it to work on."""
    return Path(shutil.copytree(original, tmp_path / "source" / NAME))


@pytest.fixture
def grown(cache: Path) -> Path:
    """One that is longer: LMDB does not look at what lies behind its pages."""
    os.truncate(database_file(cache), 64 * CHUNK)
    return cache


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def digest(folder: Path) -> str:
    return hashlib.sha256(database_file(folder).read_bytes()).hexdigest()


def slowly(items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
    for item in items:
        time.sleep(0.003)
        yield item


def killed(work: Callable[[], object], after: float) -> bool:
    """Do something in another process and kill that; return whether it was finished before."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.WIFEXITED(status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.WIFEXITED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_import_leaves_nothing_that_counts(grown: Path, tmp_path: Path, rounds: int) -> None:
    target = export_cache(grown, tmp_path / "a.tar", compression="none")
    wanted = digest(grown)
    chance = random.Random(5)
    start = time.monotonic()
    import_cache(target, tmp_path / "once", track=slowly)
    duration = time.monotonic() - start
    cut_short = 0
    for number in range(rounds):
        output = tmp_path / f"out{number % 2}"  # every other round there is a cache already
        before = (output / NAME).exists()
        work = partial(import_cache, target, output, force=True, track=slowly)
        cut_short += not killed(work, chance.uniform(0, duration))
        if (output / NAME).exists():
            assert digest(output / NAME) == wanted
        else:
            assert not before or (output / f"{NAME}.old").exists(), "the old one is not lost"
        if number % 2:
            continue
        import_cache(target, output, force=True)
        assert names(output) == [NAME, f"{NAME}/cache.lmdb", f"{NAME}/cache.lmdb/data.mdb"]
        shutil.rmtree(output)
    assert cut_short, "no kill came before it was finished"
    import_cache(target, output, force=True)
    assert names(output) == [NAME, f"{NAME}/cache.lmdb", f"{NAME}/cache.lmdb/data.mdb"]


def test_what_a_killed_import_leaves_is_removed_by_the_next(grown: Path, tmp_path: Path) -> None:
    def suicide(items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == total // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

    target, output = export_cache(grown, tmp_path / "a.tar.gz"), tmp_path / "out"
    killed(partial(import_cache, target, output, track=suicide), 3)
    assert not (output / NAME).exists()
    assert (output / f"{NAME}.import" / "cache.lmdb" / "data.mdb").exists()
    import_cache(target, output)
    assert names(output) == [NAME, f"{NAME}/cache.lmdb", f"{NAME}/cache.lmdb/data.mdb"]


def test_the_next_import_removes_what_others_left_but_not_what_they_use(cache: Path, tmp_path: Path) -> None:
    target = export_cache(cache, tmp_path / "a.tar.gz")
    output = tmp_path / "out"
    for name in (".yolo_cache_32x32_f1.0", ".yolo_cache_64x64_f1.0", ".yolo_cache_my_own"):
        (output / f"{name}.import" / "cache.lmdb").mkdir(parents=True)
    with building(output / ".yolo_cache_64x64_f1.0"):
        import_cache(target, output)
    kept = {".yolo_cache_64x64_f1.0.import", ".yolo_cache_my_own.import", NAME}
    assert {path.name for path in output.iterdir() if path.is_dir()} == kept


def test_a_killed_export_leaves_no_archive(grown: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    for after in (0.05, 0.3):
        assert not killed(lambda: export_cache(grown, target, compression="none", track=slowly), after)
        assert not target.exists()
    export_cache(grown, target, compression="none")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.tar"]
