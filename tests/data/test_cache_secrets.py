"""What somebody sees who has an encrypted cache, a pickle of it, or its errors, but not the key."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import context as process_context
from pathlib import Path

import numpy as np
import pytest

from yolo.data import spill as spilling
from yolo.data.cache.errors import CacheError
from yolo.data.cache.pictures import SourceFacts, encode_record
from yolo.data.cache.readers import close_all
from yolo.data.cache.seal import KeySeal
from yolo.data.cache.store import CacheStore
from yolo.data.encryption.keys import Key, parse_key
from yolo.data.spill import Spilled, spill
from yolo.data.testing.caches import CLASSES, make_cache, make_pictures

SECRET = "00ff" * 15 + "a1b2"
PICTURES = make_pictures(20)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    close_all()
    for name in [name for name in os.environ if name.startswith("YOLO_ENCRYPTION_KEY_")]:
        del os.environ[name]


@pytest.fixture
def key() -> Key:
    return parse_key(SECRET, source="test")


def pieces(content: bytes, *, size: int = 16) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content) - size, 97))


def clear_content(picture_format: str) -> Iterator[bytes]:
    """What must not be found: paths, names, and short pieces of each record's picture."""
    yield from (name.encode() for name in CLASSES)
    yield from (b"the picture", b"train/images", b".jpg", b"/data/set", b"class_names", b"yolo", b"\xff\xd8\xff")
    yield np.array([1, 2, 30, 40], np.float32).tobytes()
    for picture in PICTURES:
        record = encode_record(picture, SourceFacts(17, 1, 2, bytes(16)), picture_format=picture_format, quality=95)  # type: ignore[arg-type]
        # The first bytes of a JPEG are the same in all of them; blocks of one colour are too common to be searched for.
        yield from (piece for piece in pieces(record[52:]) if len(set(piece)) > 8)
        yield from (piece for piece in pieces(picture.tobytes()) if len(set(piece)) > 8)


@pytest.mark.parametrize("picture_format", ["jpeg", "raw"])
def test_nothing_is_in_clear_in_the_files(tmp_path: Path, key: Key, picture_format: str) -> None:
    make_cache(tmp_path / "sealed", PICTURES, key=key, picture_format=picture_format)  # type: ignore[arg-type]
    make_cache(tmp_path / "plain", PICTURES, picture_format=picture_format)  # type: ignore[arg-type]
    found = {"sealed": 0, "plain": 0}
    for name in found:
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        content = b"".join(path.read_bytes() for path in files)
        if name == "sealed":  # the head is all that is in clear; there are copies of it in pages that were split
            content = re.sub(rb'\{"format": "yolo image cache"[^}]*\}?', b"", content)
        for text in clear_content(picture_format):
            found[name] += text in content
            if name == "sealed" and len(text) > 3:  # three bytes may be anywhere by chance
                assert text not in content, text
    assert found["plain"] > 100, "else the test shows nothing"
    assert found["sealed"] <= 1


def test_rewriting_leaves_nothing_in_clear_either(tmp_path: Path, key: Key) -> None:
    """Pages that are used again are filled by LMDB from its memory, see ``meminit``."""
    head = None
    for seed in range(4):
        make_cache(tmp_path, make_pictures(20 - seed, seed=seed), key=key, head=head)
        head = CacheStore.open(tmp_path, key=key).head
    content = (tmp_path / "cache.lmdb" / "data.mdb").read_bytes()
    assert b"the picture" not in content and CLASSES[0].encode() not in content


def test_no_key_in_files_pickles_and_texts(tmp_path: Path, key: Key) -> None:
    make_cache(tmp_path, PICTURES, key=key)
    store = CacheStore.open(tmp_path, key=key)
    store.read(0)
    texts = [pickle.dumps(store), pickle.dumps(store.seal), pickle.dumps(store.index)]
    texts += [repr(thing).encode() for thing in (store, store.seal, store.head, vars(store.seal))]
    texts += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(CacheError) as caught:
        CacheStore.open(tmp_path, key=Key(bytes(32)))
    texts.append(str(caught.value).encode())
    for text in texts:
        for secret in (bytes.fromhex(SECRET), SECRET.encode(), SECRET.upper().encode()):
            assert secret not in text
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(vars(store.seal))


def test_a_pickle_holds_neither_labels_nor_paths(tmp_path: Path, key: Key) -> None:
    make_cache(tmp_path, PICTURES, key=key)
    store = CacheStore.open(tmp_path, key=key)
    assert len(store.index.paths) == 20
    pickled = pickle.dumps(store)
    assert b"the picture" not in pickled and CLASSES[0].encode() not in pickled and len(pickled) < 4000
    copy = pickle.loads(pickled)
    np.testing.assert_array_equal(copy.read(3), PICTURES[3])
    assert isinstance(copy.seal, KeySeal)


@pytest.fixture
def spawning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_context._tls, "spawning_popen", object(), raising=False)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("spawning")
def test_labels_of_an_encrypted_cache_reach_no_disk(tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room in memory, spawned workers get them through the pipe."""
    monkeypatch.setattr(spilling, "_folder", lambda size: None)
    monkeypatch.setattr(spilling.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    make_cache(tmp_path / "sealed", PICTURES, key=key)
    make_cache(tmp_path / "plain", PICTURES)
    for name, files in (("sealed", 0), ("plain", 2)):
        store = CacheStore.open(tmp_path / name, key=key)
        table = store.index.splits["train"].table
        moved = replace(table, paths=table.paths)  # what the caller does to place it in a folder
        copies = pickle.loads(pickle.dumps(store)), pickle.loads(pickle.dumps(moved))
        assert len(list((tmp_path / "temporary").iterdir())) == files
        np.testing.assert_array_equal(copies[0].read(1), PICTURES[1])
        assert copies[1].fingerprint() == table.fingerprint()


def test_secret_arrays_go_into_memory_or_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"a": np.arange(5), "b": np.zeros((0, 4), np.float32)}

    class Owner:
        pass

    owner = Owner()
    monkeypatch.setattr(spilling, "_folder", lambda size: None)
    kept = spill(arrays, owner, secret=True)
    assert kept.path == "" and not kept.places
    for spilled in (kept, spill(arrays, owner)):
        back: Spilled = pickle.loads(pickle.dumps(spilled))
        assert back.attach().keys() == arrays.keys()
        np.testing.assert_array_equal(back.attach()["a"], arrays["a"])
        assert back.attach()["b"].shape == (0, 4)
