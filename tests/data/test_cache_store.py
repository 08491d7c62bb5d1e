"""Reading a cache: in this process, in its children, and when the file is not what it was."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pytest

from yolo.data.cache.errors import (
    CacheError,
    DamagedCacheError,
    DamagedRecordError,
    MissingCacheError,
    MissingCacheKeyError,
    StaleCacheError,
    WrongCacheKeyError,
)
from yolo.data.cache.readers import close_all, database_file, open_reader
from yolo.data.cache.seal import index_label, record_label
from yolo.data.cache.store import HEAD, CacheStore, Head, read_head
from yolo.data.cache.writer import Writer
from yolo.data.encryption.keys import Key, parse_key
from yolo.data.testing.caches import make_cache, make_pictures, read_all

SECRET = bytes(range(32)).hex()
PICTURES = make_pictures(12)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    close_all()
    for name in [name for name in os.environ if name.startswith("YOLO_ENCRYPTION_KEY_")]:  # handed on to workers
        del os.environ[name]


@pytest.fixture(params=["plain", "encrypted"])
def key(request: pytest.FixtureRequest) -> Key | None:
    return parse_key(SECRET, source="test") if request.param == "encrypted" else None


@pytest.fixture
def folder(tmp_path: Path, key: Key | None) -> Path:
    make_cache(tmp_path / "cache", PICTURES, key=key)
    return tmp_path / "cache"


@pytest.mark.parametrize("picture_format", ["jpeg", "raw"])
def test_pictures_come_back(tmp_path: Path, key: Key | None, picture_format: str) -> None:
    make_cache(tmp_path, PICTURES, key=key, picture_format=picture_format)
    store = CacheStore.open(tmp_path, key=key)
    assert len(store) == 12
    for number, picture in enumerate(PICTURES):
        read = store.read(number)
        assert read.dtype == np.uint8 and read.flags.c_contiguous and read.flags.writeable
        assert read.shape == picture.shape
        assert np.abs(read.astype(int) - picture).mean() < (6 if picture_format == "jpeg" else 0.001)
    assert store.facts(3).size == 17 and store.info(3).size == (67, 64)
    small = store.read(3, least=(10, 10))
    assert small.shape == ((16, 17, 3) if picture_format == "jpeg" else (64, 67, 3))
    np.testing.assert_array_equal(store.read(3, rows=20)[:20], store.read(3)[:20])
    with pytest.raises(IndexError):
        store.read(12)
    with pytest.raises(IndexError):
        store.read(-1)
    store.prefault()
    assert store.file_size() > 1000


def test_the_pixels_outlive_the_cache(folder: Path, key: Key | None) -> None:
    image = CacheStore.open(folder, key=key).read(0)
    close_all()
    image[:] += 1
    shutil.rmtree(folder)
    np.testing.assert_array_equal(image, PICTURES[0] + 1)


def test_two_splits_share_one_environment(folder: Path, key: Key | None) -> None:
    """LMDB refuses to open one file twice in a process, and training opens it for train and val."""
    train, val = (CacheStore.open(folder, key=key) for _ in range(2))
    for _ in range(2):
        for store in (train, val, pickle.loads(pickle.dumps(train))):
            np.testing.assert_array_equal(store.read(5), PICTURES[5])
    assert open_reader(folder) is open_reader(folder / ".." / folder.name)


def test_it_is_opened_again_after_it_was_closed(folder: Path, key: Key | None) -> None:
    store = CacheStore.open(folder, key=key)
    store.read(0)
    close_all()
    np.testing.assert_array_equal(store.read(1), PICTURES[1])


@pytest.mark.parametrize(
    ("method", "encrypted"),
    [
        ("fork", False),
        ("fork", True),
        ("spawn", True),
        pytest.param("spawn", False, marks=pytest.mark.slow),
        pytest.param("forkserver", True, marks=pytest.mark.slow),
        pytest.param("forkserver", False, marks=pytest.mark.slow),
    ],
)
def test_workers_read_it(tmp_path: Path, method: str, encrypted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a key that is not in ``YOLO_ENCRYPTION_KEY``."""
    monkeypatch.delenv("YOLO_ENCRYPTION_KEY", raising=False)
    key = parse_key(SECRET, source="test") if encrypted else None
    make_cache(tmp_path, PICTURES, key=key)
    store = CacheStore.open(tmp_path, key=key)
    np.testing.assert_array_equal(store.read(0), PICTURES[0])  # it is open here, too
    if method == "forkserver":  # a server that is there already has the environment of its own start
        multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    workers = [context.Process(target=read_all, args=(store, queue), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for answer in [queue.get(timeout=90) for _ in workers]:
        assert not isinstance(answer, str), answer
        for image, picture in zip(answer, PICTURES, strict=True):
            np.testing.assert_array_equal(image, picture)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    np.testing.assert_array_equal(store.read(2), PICTURES[2])


def test_a_grandchild_reads_it(folder: Path, key: Key | None) -> None:
    store = CacheStore.open(folder, key=key)
    store.read(0)
    child = os.fork()
    if child == 0:
        store.read(1)
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if np.array_equal(store.read(2), PICTURES[2]) else 1)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_reading_needs_no_right_to_write(folder: Path, key: Key | None) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    (folder / "cache.lmdb" / "lock.mdb").unlink()
    store = CacheStore.open(folder, key=key)
    np.testing.assert_array_equal(store.read(0), PICTURES[0])
    assert "lock.mdb" in before and not (folder / "cache.lmdb" / "lock.mdb").exists()


def test_there_is_no_cache(tmp_path: Path) -> None:
    assert read_head(tmp_path / "nowhere") is None
    (tmp_path / "cache.lmdb").mkdir()
    assert read_head(tmp_path) is None
    with pytest.raises(MissingCacheError, match="cache-create"):
        CacheStore.open(tmp_path, key=None)


def test_a_cache_that_was_never_finished_is_not_read(folder: Path, key: Key | None) -> None:
    head = read_head(folder)
    assert head is not None and head.complete
    with Writer(folder) as writer:
        writer.put_many([(HEAD, replace(head, complete=False).as_json())])
    assert read_head(folder) == replace(head, complete=False)
    with pytest.raises(MissingCacheError, match="never finished"):
        CacheStore.open(folder, key=key)


def test_the_head_needs_no_key(folder: Path, key: Key | None) -> None:
    head = read_head(folder)
    assert head is not None
    assert (head.version, head.records, head.encrypted) == ("5.0.0", 12, key is not None)
    assert head.key_id == (None if key is None else key.id)
    assert Head.from_json(head.as_json()) == head


@pytest.mark.parametrize("text", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"format": "yolo image cache"}', b"null"])
def test_a_head_that_is_none_is_of_an_unknown_version(tmp_path: Path, text: bytes) -> None:
    with Writer(tmp_path) as writer:
        writer.put_many([(HEAD, text)])
    head = read_head(tmp_path)
    assert head is not None and head.version == "unknown"
    with pytest.raises(StaleCacheError, match=r"\(unknown → 5\.0\.0\)"):
        CacheStore.open(tmp_path, key=None)


@pytest.mark.parametrize("change", ["records", "cache_id", "key_id", "complete", "key_check"])
def test_a_head_with_wrong_facts_is_refused(tmp_path: Path, change: str) -> None:
    text = Head.new(key=parse_key(SECRET, source="test"), records=1).as_json().decode()
    value = {"records": "-1", "cache_id": '"00"', "key_id": '"../x"', "complete": "1", "key_check": '"zz"'}[change]
    start = text.index(f'"{change}"') + len(change) + 4
    end = min(position for position in (text.find(", ", start), text.find("}", start)) if position > 0)
    with pytest.raises(ValueError):
        Head.from_json((text[:start] + value + text[end:]).encode())


def test_the_old_caches_are_not_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, ("touch /tmp/exploded-in-test-cache-store",)

    env = lmdb.open(str(tmp_path / "cache.lmdb"), map_size=1 << 20)
    with env.begin(write=True) as txn:
        txn.put(b"__metadata__", pickle.dumps({"version": "4.0.0", "bomb": Bomb(), "cache_format": "jpeg"}))
    env.close()
    head = read_head(tmp_path)
    assert head is not None and (head.version, head.complete) == ("4.0.0", False)
    with pytest.raises(StaleCacheError, match=r"version changed \(4\.0\.0 → 5\.0\.0\)"):
        CacheStore.open(tmp_path, key=None)
    assert not Path("/tmp/exploded-in-test-cache-store").exists()


def test_a_wrong_key_is_told_at_once(tmp_path: Path) -> None:
    make_cache(tmp_path, PICTURES[:1], key=parse_key(SECRET, source="test"))
    other = Key(bytes(32))
    with pytest.raises(WrongCacheKeyError) as caught:
        CacheStore.open(tmp_path, key=other)
    assert other.id in str(caught.value) and parse_key(SECRET, source="test").id in str(caught.value)
    assert "WRONG KEY" in str(caught.value) and SECRET not in str(caught.value)
    with pytest.raises(MissingCacheKeyError, match="YOLO_ENCRYPTION_KEY"):
        CacheStore.open(tmp_path, key=None)


def change_record(folder: Path, number: int, value: bytes) -> None:
    with Writer(folder) as writer:
        writer.put_many([(record_label(number), value)])


def stored(folder: Path, label: bytes) -> bytes:
    with Writer(folder) as writer:
        value = writer.get(label)
    assert value is not None
    return value


def assert_damaged(folder: Path, key: Key | None, number: int, match: str = "is damaged") -> None:
    """One record is, its neighbours are not."""
    store = CacheStore.open(folder, key=key)
    with pytest.raises(DamagedRecordError, match=match) as caught:
        store.read(number)
    text = str(caught.value)
    assert f"the picture {number:04}.jpg" in text and "cache-verify" in text and "cache_refresh" in text
    assert "\n" not in text
    with pytest.raises(DamagedRecordError):
        pickle.loads(pickle.dumps(store)).facts(number)
    np.testing.assert_array_equal(store.read(7), PICTURES[7])


def test_swapped_records_are_noticed(folder: Path, key: Key | None) -> None:
    first, second = (stored(folder, record_label(number)) for number in (2, 3))
    change_record(folder, 2, second)
    change_record(folder, 3, first)
    assert_damaged(folder, key, 2)
    assert_damaged(folder, key, 3)


@pytest.mark.parametrize("kept", [0, 1, 4, 15, 28, 60, -1])
def test_a_cut_record_is_noticed(folder: Path, key: Key | None, kept: int) -> None:
    change_record(folder, 2, stored(folder, record_label(2))[:kept])
    assert_damaged(folder, key, 2)


def test_a_missing_record_is_noticed(folder: Path, key: Key | None) -> None:
    with Writer(folder) as writer:
        writer.delete([record_label(2)])
    assert_damaged(folder, key, 2, "missing")


def test_an_older_record_put_back_is_noticed(folder: Path, key: Key | None) -> None:
    """It was once closed for the same place of the same cache, so its own seal is good."""
    head = read_head(folder)
    old = stored(folder, record_label(2))
    changed = list(PICTURES)
    changed[2] = np.ascontiguousarray(PICTURES[2][::-1])
    make_cache(folder, changed, key=key, head=head)
    CacheStore.open(folder, key=key).read(2)
    change_record(folder, 2, old)
    assert_damaged(folder, key, 2, "not the one")


def test_any_flipped_bit_of_a_record_is_noticed(tmp_path: Path, key: Key | None) -> None:
    """At the place where the check is compared, and, for the seal itself, with that check taken from the record."""
    make_cache(tmp_path, PICTURES[:1], key=key)
    whole = stored(tmp_path, record_label(0))
    store = CacheStore.open(tmp_path, key=key)
    rng = np.random.default_rng(0)
    places = [*range(70), *range(len(whole) - 40, len(whole)), *rng.integers(0, len(whole), 200).tolist()]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(DamagedRecordError):
            store.seal.open(changed, record_label(0))
    with pytest.raises(DamagedRecordError):
        store.seal.open(whole, record_label(1))
    assert bytes(store.seal.open(whole, record_label(0)))[:1] == b"r"


def test_any_flipped_byte_of_the_file_is_noticed(folder: Path, key: Key | None) -> None:
    """Wherever a byte is changed, the answer is an error that says so, or all pictures are the right ones."""
    file = database_file(folder)
    whole = file.read_bytes()
    rng = np.random.default_rng(1)
    noticed = 0
    for place in [*range(0, 200, 3), *range(4096, 4300, 7), *rng.integers(0, len(whole), 150).tolist()]:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        close_all()
        file.unlink()  # a file by another identity: the last one's was looked at
        file.write_bytes(changed)
        try:
            store = CacheStore.open(folder, key=key)
            assert store.index.splits["train"].table.class_names[0] == "red blood cell"
            for number, picture in enumerate(PICTURES):
                np.testing.assert_array_equal(store.read(number), picture)
        except (DamagedCacheError, StaleCacheError, MissingCacheError, WrongCacheKeyError, MissingCacheKeyError):
            noticed += 1
    assert noticed > 50


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_file_is_noticed(folder: Path, key: Key | None, share: float) -> None:
    file = database_file(folder)
    os.truncate(file, int(file.stat().st_size * share))
    with pytest.raises(DamagedCacheError, match="is damaged") as caught:
        store = CacheStore.open(folder, key=key)
        for number in range(12):
            store.read(number)
    assert str(folder) in str(caught.value)


def test_a_file_that_is_no_database_is_noticed(tmp_path: Path) -> None:
    file = database_file(tmp_path)
    file.parent.mkdir()
    for content in (b"", b"hello" * 5000, bytes(20_000)):
        file.write_bytes(content)
        with pytest.raises(DamagedCacheError):
            read_head(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(CacheError):
        read_head(tmp_path)


def test_mixed_generations_of_the_index_are_noticed(folder: Path, key: Key | None) -> None:
    """Each part alone is sound: closed for this cache and this place."""
    head = read_head(folder)
    parts = ["train.boxes", "train.labels", "paths.data", "checks", "manifest"]
    old = {name: stored(folder, index_label(name, 0)) for name in parts}
    changed = [np.ascontiguousarray(picture[::-1]) for picture in PICTURES[:-1]]
    make_cache(folder, changed, key=key, head=head)
    new = {name: stored(folder, index_label(name, 0)) for name in parts}
    different = [name for name in parts if old[name] != new[name]]
    assert different == parts
    for name in different:
        with Writer(folder) as writer:
            writer.put_many([(index_label(name, 0), old[name])])
        with pytest.raises(DamagedCacheError, match="index"):
            _ = CacheStore.open(folder, key=key).index
        with Writer(folder) as writer:
            writer.put_many([(index_label(name, 0), new[name])])
    assert len(CacheStore.open(folder, key=key).index) == 11


def test_a_cache_replaced_while_it_is_read_is_not_mixed_up(folder: Path, key: Key | None, tmp_path: Path) -> None:
    store = CacheStore.open(folder, key=key)
    store.read(0)
    make_cache(tmp_path / "other", PICTURES[::-1], key=key)
    folder.rename(tmp_path / "aside")
    (tmp_path / "other").rename(folder)
    np.testing.assert_array_equal(store.read(1), PICTURES[1])  # the old file is still open
    close_all()
    with pytest.raises(DamagedCacheError, match="was replaced"):
        store.read(1)
    np.testing.assert_array_equal(CacheStore.open(folder, key=key).read(0), PICTURES[-1])


def test_a_reader_and_a_writer_in_one_process(folder: Path, key: Key | None) -> None:
    store = CacheStore.open(folder, key=key)
    store.read(0)
    with Writer(folder) as writer:  # closes the reader
        writer.put_many([(b"x", b"y")])
        with pytest.raises(CacheError, match="is being written by this process"):
            store.read(1)
    np.testing.assert_array_equal(store.read(1), PICTURES[1])


def test_threads_share_a_store(folder: Path, key: Key | None) -> None:
    store = CacheStore.open(folder, key=key)
    with ThreadPoolExecutor(6) as pool:
        for number, image in enumerate(pool.map(store.read, list(range(12)) * 40)):
            np.testing.assert_array_equal(image, PICTURES[number % 12])
