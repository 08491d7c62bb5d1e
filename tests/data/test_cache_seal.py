"""Closing values so that changes are noticed."""

from __future__ import annotations

import pickle
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo.data.cache.errors import DamagedRecordError
from yolo.data.cache.seal import KeySeal, PlainSeal, Seal, index_label, record_label
from yolo.data.encryption.keys import Key, parse_key

KEY = parse_key("ab" * 32, source="test")
ID = bytes(range(16))


@pytest.fixture(params=["plain", "key"])
def seal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Seal:
    monkeypatch.setenv("YOLO_ENCRYPTION_KEY", "ab" * 32)
    return PlainSeal() if request.param == "plain" else KeySeal(KEY, ID)


def test_labels_are_in_order_and_all_different() -> None:
    numbers = [0, 1, 255, 256, 65_536, 1 << 32]
    assert [record_label(number) for number in numbers] == sorted(record_label(number) for number in numbers)
    assert record_label(258) == b"r\0\0\0\0\0\0\1\2"
    assert index_label("train.boxes", 3) == b"index/train.boxes/3"


@given(data=st.binary(max_size=200), label=st.binary(max_size=20), place=st.integers(0), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_any_change_is_noticed(data: bytes, label: bytes, place: int, bit: int) -> None:
    for seal in (PlainSeal(), KeySeal(KEY, ID)):
        stored = seal.close(data, label)
        assert len(stored) == len(data) + seal.overhead
        assert bytes(seal.open(stored, label)) == data == bytes(seal.open(memoryview(stored), label))
        assert seal.check(stored) == stored[-seal.check_size :] == seal.check(memoryview(stored))
        changed = bytearray(stored)
        changed[place % len(stored)] ^= 1 << bit
        with pytest.raises(DamagedRecordError):
            seal.open(bytes(changed), label)
        with pytest.raises(DamagedRecordError):
            seal.open(stored, label + b"x")
        for cut in {0, 1, len(stored) // 2, len(stored) - 1}:
            with pytest.raises(DamagedRecordError):
                seal.open(stored[:cut], label)
        with pytest.raises(DamagedRecordError):
            seal.open(stored + b"\0", label)


def test_encryption_hides_and_never_repeats() -> None:
    seal = KeySeal(KEY, ID)
    closed = {seal.close(b"the same value of some length", b"x") for _ in range(200)}
    assert len(closed) == 200 and not any(b"same" in value for value in closed)
    assert len({value[:12] for value in closed}) == 200


def test_another_key_or_cache_does_not_open_it() -> None:
    stored = KeySeal(KEY, ID).close(b"value", b"x")
    for other in (KeySeal(Key(bytes(32)), ID), KeySeal(KEY, bytes(16))):
        with pytest.raises(DamagedRecordError):
            other.open(stored, b"x")
    with pytest.raises(ValueError):
        KeySeal(KEY, b"short")


def test_the_key_check_knows_the_key() -> None:
    check = KeySeal(KEY, ID).key_check()
    assert KeySeal(KEY, ID).opens(check)
    assert not KeySeal(Key(bytes(32)), ID).opens(check)
    assert not KeySeal(KEY, bytes(16)).opens(check)
    assert not KeySeal(KEY, ID).opens(b"") and not KeySeal(KEY, ID).opens(check[:-1])
    with pytest.raises(DamagedRecordError):  # it is no record
        KeySeal(KEY, ID).open(check, record_label(0))


def test_a_pickle_opens_the_same_values(seal: Seal) -> None:
    copy = pickle.loads(pickle.dumps(seal))
    assert bytes(copy.open(seal.close(b"value", b"x"), b"x")) == b"value"
    assert b"\xab" * 32 not in pickle.dumps(seal) and b"ab" * 32 not in pickle.dumps(seal)


def test_threads_share_a_seal(seal: Seal) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(200):
            data = bytes([number, turn]) * 500
            if bytes(seal.open(seal.close(data, b"x"), b"x")) != data:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
