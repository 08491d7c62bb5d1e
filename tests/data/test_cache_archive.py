"""A cache as an archive: written and unpacked, whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache import archive as archive_module
from yolo.data.cache import unpack
from yolo.data.cache.archive import default_target, export_cache, import_cache
from yolo.data.cache.promote import CacheBusyError, building, partial_folder
from yolo.data.cache.readers import database_file
from yolo.data.cache.store import HEAD, CacheStore, read_head
from yolo.data.cache.tar import CHUNK, Member, Source, header
from yolo.data.cache.writer import Writer

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


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_what_is_unpacked_is_what_was_packed(cache: Path, tmp_path: Path, compression: Any) -> None:
    target = tmp_path / "a.archive"
    assert export_cache(cache, target, compression=compression) == target
    assert target.read_bytes().startswith(b"\x1f\x8b") == (compression == "gzip")
    output = tmp_path / "far" / "away"
    folder = import_cache(target, output)
    assert folder == output / NAME
    assert names(output) == [NAME, f"{NAME}/cache.lmdb", f"{NAME}/cache.lmdb/data.mdb"]
    assert digest(folder) == digest(cache)
    store = CacheStore.open(folder, key=None)
    assert [store.read(number).shape[2] for number in range(24)] == [3] * 24
    assert names(tmp_path / "source") == names(cache.parent), "nothing is left beside the cache"


def test_the_manifest_comes_first_and_is_true(cache: Path, tmp_path: Path) -> None:
    export_cache(cache, tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == [f"{NAME}/manifest.json", f"{NAME}/cache.lmdb/data.mdb"]
        assert all((member.uname, member.uid, member.mtime) == ("", 0, 0) for member in members), "nobody's business"
        manifest = json.load(tar.extractfile(members[0]) or io.BytesIO())
    (file,) = manifest["files"]
    assert file == {
        "path": "cache.lmdb/data.mdb",
        "size": database_file(cache).stat().st_size,
        "sha256": digest(cache),
    }
    assert (manifest["cache"], manifest["records"], manifest["encrypted"]) == (NAME, 24, False)


def test_equal_caches_make_equal_archives(cache: Path, tmp_path: Path) -> None:
    first, second = (export_cache(cache, tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_the_default_name_is_the_caches_without_its_dot(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export_cache(cache) == Path("yolo_cache_96x96_f1.0.tar.gz")
    assert default_target(cache, "none") == Path("yolo_cache_96x96_f1.0.tar")
    assert (tmp_path / "yolo_cache_96x96_f1.0.tar.gz").is_file()


def test_an_archive_is_replaced_only_by_force(cache: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.tar.gz"
    target.write_text("precious")
    with pytest.raises(UsageError, match=r"exists already.*--force"):
        export_cache(cache, target)
    assert target.read_text() == "precious"
    export_cache(cache, target, force=True)
    assert gzip.decompress(target.read_bytes())


def test_export_says_what_is_wrong_with_its_paths(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        export_cache(cache, tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        export_cache(cache, tmp_path / "missing" / "a.tar.gz")
    with pytest.raises(UsageError, match="in the cache itself"):
        export_cache(cache, cache / "a.tar.gz")
    with pytest.raises(UsageError, match="there is no cache"):
        export_cache(tmp_path / NAME, tmp_path / "a.tar.gz")
    with pytest.raises(UsageError, match="not the folder of a cache"):
        export_cache(cache / "cache.lmdb", tmp_path / "a.tar.gz")
    assert names(tmp_path) == ["source", *(f"source/{name}" for name in names(cache.parent))]


def test_a_cache_that_is_not_complete_is_not_exported(cache: Path, tmp_path: Path) -> None:
    head = json.loads(read_raw_head(cache))
    with Writer(cache) as writer:
        writer.put_many([(HEAD, json.dumps(head | {"complete": False}).encode())])
    with pytest.raises(YoloError, match="not complete"):
        export_cache(cache, tmp_path / "a.tar.gz")
    cache.rename(partial_folder(cache))
    with pytest.raises(YoloError, match="not complete"):
        export_cache(cache, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


def test_a_cache_of_the_old_code_is_not_exported(tmp_path: Path) -> None:
    with Writer(tmp_path / NAME) as writer:
        writer.put_many([(b"__metadata__", pickle.dumps({"version": "4.0.0"}))])
    with pytest.raises(YoloError, match=r"of version 4\.0\.0.*yolo cache-create"):
        export_cache(tmp_path / NAME, tmp_path / "a.tar.gz")


def test_archives_of_eight_gib_and_more_have_a_place_for_the_size(tmp_path: Path) -> None:
    for size in (0, 1, (1 << 33) - 1, 1 << 33, 1 << 45):
        (tmp_path / "a").write_bytes(header(f"{NAME}/cache.lmdb/data.mdb", size))
        with Source(tmp_path / "a") as source:
            assert source.member() == Member(f"{NAME}/cache.lmdb/data.mdb", size)


def read_raw_head(folder: Path) -> bytes:
    head = read_head(folder)
    assert head is not None
    return head.as_json()


def test_a_cache_that_is_being_built_is_not_exported_nor_replaced(cache: Path, tmp_path: Path) -> None:
    export_cache(cache, tmp_path / "a.tar.gz")
    with building(cache):
        with pytest.raises(CacheBusyError, match="another process"):
            export_cache(cache, tmp_path / "b.tar.gz")
        with pytest.raises(CacheBusyError, match="another process"):
            import_cache(tmp_path / "a.tar.gz", cache.parent, force=True)
    assert not (tmp_path / "b.tar.gz").exists()


def test_a_read_only_cache_can_be_exported(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module.os, "access", lambda path, mode: False)
    cache.parent.chmod(0o500)
    try:
        export_cache(cache, tmp_path / "a.tar.gz")
    finally:
        cache.parent.chmod(0o700)
    import_cache(tmp_path / "a.tar.gz", tmp_path / "out")


def test_export_notices_that_the_cache_changes_meanwhile(grown: Path, tmp_path: Path) -> None:
    def meddle(items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
        yield from items
        if text.startswith("Hashing"):
            with database_file(grown).open("r+b") as file:
                file.seek(-5, os.SEEK_END)
                file.write(b"other")

    with pytest.raises(YoloError, match="changed while it was read"):
        export_cache(grown, tmp_path / "a.tar.gz", track=meddle)
    assert not list(tmp_path.glob("*a.tar.gz*"))


def test_a_full_disk_while_exporting_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_module, "_write_members", full)
    with pytest.raises(YoloError, match="the disk is full"):
        export_cache(cache, tmp_path / "a.tar.gz")
    assert not list(tmp_path.glob("*a.tar.gz*"))


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_memory_stays_constant(grown: Path, tmp_path: Path, compression: Any) -> None:
    tracemalloc.start()
    try:
        export_cache(grown, tmp_path / "a", compression=compression)
        import_cache(tmp_path / "a", tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * CHUNK
    assert digest(tmp_path / "out" / NAME) == digest(grown)


def test_a_cache_is_replaced_only_by_force_and_only_by_a_good_one(cache: Path, tmp_path: Path) -> None:
    target = export_cache(cache, tmp_path / "a.tar")
    output = tmp_path / "out"
    folder = import_cache(target, output)
    (folder / "mine").write_text("the old one")
    with pytest.raises(UsageError, match=r"exists already.*--force"):
        import_cache(target, output)
    damaged = bytearray(gzip.decompress(target.read_bytes()))
    damaged[9000] ^= 1
    (tmp_path / "bad.tar").write_bytes(damaged)
    with pytest.raises(YoloError, match="another hash"):
        import_cache(tmp_path / "bad.tar", output, force=True)
    assert (folder / "mine").read_text() == "the old one"
    import_cache(target, output, force=True)
    assert names(output) == [NAME, f"{NAME}/cache.lmdb", f"{NAME}/cache.lmdb/data.mdb"]


def test_what_is_in_the_way_and_no_folder_stays(cache: Path, tmp_path: Path) -> None:
    target = export_cache(cache, tmp_path / "a.tar.gz")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("precious")
    output = tmp_path / "out"
    output.mkdir()
    (output / NAME).symlink_to(elsewhere)
    with pytest.raises(UsageError, match="in the way"):
        import_cache(target, output, force=True)
    assert (elsewhere / "mine").read_text() == "precious"
    with pytest.raises(UsageError, match="not a folder"):
        import_cache(target, target)
    with pytest.raises(UsageError, match="does not exist"):
        import_cache(tmp_path / "missing", output)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = export_cache(cache, tmp_path / "a.tar.gz")
    monkeypatch.setattr(unpack, "_free", lambda folder: 1000)
    with pytest.raises(YoloError, match="1,000 bytes free"):
        import_cache(target, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_while_importing_leaves_nothing(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == 10:
                raise OSError(28, "No space left on device")
            yield item

    target = export_cache(grown, tmp_path / "a.tar.gz")
    with pytest.raises(YoloError, match=r"disk is full.*nothing was left"):
        import_cache(target, tmp_path / "out" / "deep", track=full)
    assert not (tmp_path / "out").exists()
