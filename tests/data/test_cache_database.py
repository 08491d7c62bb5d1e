"""The database below a cache: written so that it grows, and looked at before LMDB gets to see it."""

from __future__ import annotations

import errno
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest

from yolo.data.cache import writer as writer_module
from yolo.data.cache.errors import (
    CacheError,
    CacheFullError,
    CacheReadOnlyError,
    DamagedCacheError,
    ImageNotInCacheError,
    MissingCacheError,
    box,
    encryption_mismatch,
    format_mismatch,
    missing_key,
    wrong_key,
)
from yolo.data.cache.readers import close_all, database_file, open_reader
from yolo.data.cache.seal import record_label
from yolo.data.cache.tree import check_tree
from yolo.data.cache.writer import Writer

PAGE = 4096


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    close_all()


def fill(folder: Path, count: int = 400, *, most: int = 6000) -> dict[bytes, bytes]:
    rng = np.random.default_rng(0)
    items = {record_label(number): rng.bytes(int(rng.integers(1, most))) for number in range(count)}
    with Writer(folder) as writer:
        writer.put_many([(b"head", b"x" * 300)])
        for start in range(0, count, 50):
            writer.put_many(list(items.items())[start : start + 50])
    return items


def test_the_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_FIRST_MAP", 1 << 16)
    items = fill(tmp_path)
    assert database_file(tmp_path).stat().st_size > 1 << 19
    with open_reader(tmp_path).begin() as txn:
        assert all(txn.get(key) == value for key, value in items.items())
    with Writer(tmp_path) as writer:
        calls = []

        def make() -> Iterator[tuple[bytes, bytes]]:
            calls.append(len(calls))
            return iter([(b"large/%d" % number, bytes(1 << 20)) for number in range(4)])

        monkeypatch.setattr(writer_module, "_LARGEST_MAP", 1 << 30)
        writer.replace(b"large/", make)
        assert len(calls) > 1 and len(list(writer.items(b"large/"))) == 4
        writer.replace(b"large/", lambda: [(b"large/x", b"y")])
        assert list(writer.items(b"large/")) == [(b"large/x", b"y")]
        assert writer.get(record_label(7)) == items[record_label(7)] and writer.get(b"none") is None
        writer.delete([b"large/x", b"none"])
        assert not list(writer.items(b"large/"))
        writer.flush(required=True)


def test_a_failed_change_changes_nothing(tmp_path: Path) -> None:
    with Writer(tmp_path) as writer:
        writer.put_many([(b"a/1", b"1"), (b"a/2", b"2")])

        def fail() -> Iterator[tuple[bytes, bytes]]:
            yield b"a/3", b"3"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            writer.replace(b"a/", fail)
        assert [key for key, _ in writer.items(b"a/")] == [b"a/1", b"a/2"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), CacheFullError),
        (OSError(errno.EROFS, "Read-only file system"), CacheReadOnlyError),
        (OSError(errno.EACCES, "Permission denied"), CacheReadOnlyError),
        (OSError(errno.EIO, "Input/output error"), CacheError),
        (lmdb.CorruptedError("x"), DamagedCacheError),
        (lmdb.MapFullError("x"), CacheError),
        (lmdb.Error("x"), CacheError),
    ],
)
def test_errors_of_the_system_are_told(tmp_path: Path, error: Exception, kind: type[Exception]) -> None:
    with Writer(tmp_path) as writer, pytest.raises(kind, match=str(tmp_path)) as caught, writer._translated():
        raise error
    assert type(caught.value) is kind and "\n" not in str(caught.value)


def test_a_cut_write_on_a_full_disk_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Writer(tmp_path) as writer:
        monkeypatch.setattr(Writer, "_free", lambda self: 5 << 20)
        with pytest.raises(CacheFullError, match=r"5 MiB are left.*goes on where it stopped"), writer._translated():
            raise OSError(errno.EIO, "Input/output error")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(CacheError, match="cannot be written"):
        Writer(tmp_path / "cache")
    with pytest.raises(MissingCacheError):
        open_reader(tmp_path / "cache")


def test_a_damaged_file_is_not_written_to(tmp_path: Path) -> None:
    fill(tmp_path)
    os.truncate(database_file(tmp_path), 9 * PAGE)
    with pytest.raises(DamagedCacheError):
        Writer(tmp_path)


def tree_pages(content: bytes) -> list[int]:
    """Pages that say of themselves that they are branches or leaves; some are stale."""
    pages = range(2, len(content) // PAGE)
    heads = ((page, struct.unpack_from("<QHH", content, page * PAGE)) for page in pages)
    return [page for page, (own, _, flags) in heads if own == page and flags in (1, 2)]


def in_a_child(act: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            act()
        except lmdb.Error:
            os._exit(3)
        except BaseException:
            os._exit(4)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("rounds", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_no_flipped_bit_ends_the_process(tmp_path: Path, rounds: int) -> None:
    """Without the check, several of these rounds end with a signal."""
    items = fill(tmp_path)
    fill(tmp_path)
    file = database_file(tmp_path)
    whole = file.read_bytes()
    pages = tree_pages(whole)
    rng = np.random.default_rng(3)
    refused = 0

    def use() -> None:
        env = lmdb.open(str(file.parent), readonly=True, lock=False)
        with env.begin(buffers=True) as txn:
            for key in items:
                bytes(txn.get(key) or b"")
        env.close()
        env = lmdb.open(str(file.parent), map_size=1 << 27)
        for _ in range(2):
            with env.begin(write=True) as txn:
                for number in range(50, 90):
                    txn.put(record_label(number), bytes(5000))
                    txn.delete(record_label(number + 100))

    for number in range(rounds):
        changed = bytearray(whole)
        page = int(rng.choice(pages)) if number % 3 else number % 2
        place = page * PAGE + int(rng.integers(0, 150) if number % 2 else rng.integers(PAGE))
        changed[place] ^= 1 << int(rng.integers(8))
        if number % 50 == 7:
            del changed[int(rng.integers(len(changed))) :]
        file.write_bytes(changed)
        try:
            check_tree(file)
        except DamagedCacheError:
            refused += 1
            continue
        assert in_a_child(use) in (0, 3 << 8), f"byte {place - page * PAGE} of page {page}"
    assert refused > rounds / 20


@pytest.mark.parametrize("what", ["fixed map", "duplicates", "depth", "page size", "loop", "outside", "length", "last"])
def test_a_file_made_on_purpose_is_refused(tmp_path: Path, what: str) -> None:
    fill(tmp_path)
    file = database_file(tmp_path)
    content = bytearray(file.read_bytes())
    check_tree(file)
    branch = next(
        page for page in reversed(tree_pages(content)) if struct.unpack_from("<H", content, page * PAGE + 10)[0] == 1
    )
    leaf = tree_pages(content)[-1]
    main = 16 + 24 + 48
    for meta in (0, PAGE):
        if what == "fixed map":
            content[meta + 16 + 24 + 4] |= 1
        elif what == "duplicates":
            content[meta + main + 4] |= 4
        elif what == "depth":
            struct.pack_into("<H", content, meta + main + 6, 40)
        elif what == "page size":
            struct.pack_into("<I", content, meta + 16 + 24, 1 << 31)
        elif what == "last":
            struct.pack_into("<Q", content, meta + 16 + 24 + 96, 1 << 60)
    place = branch * PAGE + struct.unpack_from("<H", content, branch * PAGE + 16)[0]
    if what == "loop":
        struct.pack_into("<I", content, place, branch)
    elif what == "outside":
        struct.pack_into("<I", content, place, 1 << 30)
    elif what == "length":
        place = leaf * PAGE + struct.unpack_from("<H", content, leaf * PAGE + 16)[0]
        struct.pack_into("<I", content, place, 1 << 30)
    file.write_bytes(content)
    with pytest.raises(DamagedCacheError, match="is damaged"):
        check_tree(file)
    with pytest.raises(DamagedCacheError):
        open_reader(tmp_path)


def test_the_files_of_lmdb_pass(tmp_path: Path) -> None:
    """Empty ones, small and large values, after deleting everything."""
    with Writer(tmp_path / "empty"):
        pass
    check_tree(database_file(tmp_path / "empty"))
    for most in (2, 200, 2500, 40_000):
        folder = tmp_path / str(most)
        items = fill(folder, 300, most=most)
        check_tree(database_file(folder))
        for step in (3, 2, 1):
            with Writer(folder) as writer:
                writer.delete(list(items)[::step])
            check_tree(database_file(folder))
            with open_reader(folder).begin() as txn:
                assert txn.get(b"head") == b"x" * 300
            close_all()


def lines_of(error: Exception) -> list[str]:
    lines = str(error).splitlines()
    assert {len(line) for line in lines} == {72}
    assert lines[0] == f"╔{'═' * 70}╗" and lines[2] == f"╠{'═' * 70}╣" and lines[-1] == f"╚{'═' * 70}╝"
    assert all(line[0] == "║" == line[-1] for line in (lines[1], *lines[3:-1]))
    return lines


def test_the_boxes() -> None:
    folder = Path("/data/" + "long/" * 30)
    mismatch = lines_of(encryption_mismatch(folder, encrypted=True))
    assert mismatch[1] == "║  ENCRYPTION MISMATCH                                                 ║"
    assert mismatch[3] == "║  The cache is ENCRYPTED but cache_encrypt: false in your config.     ║"
    assert "NOT ENCRYPTED but cache_encrypt: true" in str(encryption_mismatch(folder, encrypted=False))
    other = lines_of(format_mismatch(folder, wanted="coco", found="yolo"))
    assert other[1:5] == [
        "║  FORMAT MISMATCH                                                     ║",
        f"╠{'═' * 70}╣",
        "║  YAML config:  format: coco                                          ║",
        "║  Cache format: yolo                                                  ║",
    ]
    assert "ab" * 8 in str(wrong_key(folder, cache_key="ab" * 8, given_key="cd" * 8))
    lines_of(wrong_key(folder, cache_key="ab" * 8, given_key="ab" * 8))
    assert "\n" not in str(missing_key(folder))
    absent = ImageNotInCacheError("train/a.jpg", Path("/data"))
    assert lines_of(absent)[3] == "║  Image: train/a.jpg                                                  ║"
    for copy in (pickle.loads(pickle.dumps(absent)), ImageNotInCacheError(str(absent))):  # torch does the latter
        assert str(copy) == str(absent)
    assert box("T", ["a b " * 40, "", "x"]).count("\n") == 8
