"""Pictures in records, and the facts about their files."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from pathlib import Path

import cv2
import lz4.block
import numpy as np
import pytest

from yolo.core.errors import YoloError
from yolo.data.cache.errors import DamagedRecordError
from yolo.data.cache.pictures import SourceFacts, decode_record, encode_record, record_facts
from yolo.data.loaders.turbojpeg import TurboJPEGLoader
from yolo.data.testing.caches import make_pictures

FACTS = SourceFacts(123, 4_000_000_000_123_456_789, -5, bytes(range(16)))
HEADER = struct.Struct("<c3xIIqqq16s")
PICTURE = make_pictures(4, size=128)[3]


def encoded(kind: str = "raw", picture: np.ndarray = PICTURE) -> bytes:
    return encode_record(picture, FACTS, picture_format=kind, quality=95)  # type: ignore[arg-type]


def with_header(payload: bytes, kind: bytes = b"r", height: int = 128, width: int = 131) -> bytes:
    return HEADER.pack(kind, height, width, 1, 2, 3, bytes(16)) + payload


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (33, 17, 3), (128, 131, 3)])
def test_raw_is_lossless(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    back = decode_record(encoded("raw", picture))
    np.testing.assert_array_equal(back, picture)
    assert back.flags.writeable and back.flags.c_contiguous and back.dtype == np.uint8
    np.testing.assert_array_equal(decode_record(encoded("raw", picture[:, ::-1])), picture[:, ::-1])  # no copy needed


def test_jpeg_is_what_opencv_makes_of_it_and_the_loaders_decode_it(tmp_path: Path) -> None:
    record = encoded("jpeg")
    options = [cv2.IMWRITE_JPEG_QUALITY, 95]
    assert record[52:] == cv2.imencode(".jpg", PICTURE[..., ::-1], options)[1].tobytes(), "4:2:0 is the usual choice"
    (tmp_path / "a.jpg").write_bytes(record[52:])
    loader = TurboJPEGLoader()
    for least in (None, (60, 60), (30, 30), (8, 8), (200, 200)):
        expected = loader.read(str(tmp_path / "a.jpg"), least=least)
        for content in (record, memoryview(record), memoryview(bytearray(record))):
            back = decode_record(content, least=least)
            np.testing.assert_array_equal(back, expected)
            assert back.flags.writeable and back.flags.c_contiguous
    assert decode_record(record, least=(8, 8)).shape == (16, 17, 3)
    assert decode_record(record, rows=30).shape == PICTURE.shape
    np.testing.assert_array_equal(decode_record(record, rows=30)[:30], decode_record(record)[:30])


def test_quality_matters() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sizes = [len(encode_record(noise, FACTS, picture_format="jpeg", quality=quality)) for quality in (1, 50, 95, 100)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("kind", ["jpeg", "raw"])
def test_the_header_keeps_the_facts(kind: str) -> None:
    assert record_facts(encoded(kind)) == (FACTS, (131, 128))


def test_a_picture_too_long_for_jpeg_is_kept_raw() -> None:
    long = np.zeros((1, 65_501, 3), np.uint8)
    record = encoded("jpeg", long)
    assert record[:1] == b"r" and decode_record(record).shape == long.shape
    assert encoded("jpeg", long[:, :-1])[:1] == b"j"
    assert decode_record(encoded("jpeg", long[:, :-1])).shape == (1, 65_500, 3)


def test_a_huge_picture_is_refused() -> None:
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (40_000, 40_000, 3))
    with pytest.raises(YoloError, match="cache_resize_images"):
        encoded("raw", huge)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(52),
        bytes(60),
        with_header(b"x", height=0),
        with_header(b"x", width=0),
        with_header(b"x", kind=b"p"),
        with_header(b""),
        with_header(lz4.block.compress(bytes(128 * 131 * 3 - 1), store_size=False)),
        with_header(lz4.block.compress(bytes(128 * 131 * 3 + 1), store_size=False)),
        with_header(b"\xff" * 5000),
        with_header(encoded("jpeg")[52:]),
        with_header(encoded("jpeg")[52:], kind=b"j", width=130),
        with_header(encoded("jpeg")[52:-2], kind=b"j"),
        with_header(encoded("jpeg")[52:700] + b"\xff\xd9", kind=b"j"),
        with_header(b"\x89PNG\r\n\x1a\n" + bytes(100), kind=b"j"),
        with_header(cv2.imencode(".png", PICTURE)[1].tobytes(), kind=b"j"),
    ],
)
def test_what_is_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(DamagedRecordError):
        decode_record(content)


@pytest.mark.parametrize("kind", [b"r", b"j"])
@pytest.mark.parametrize("side", [20_000, 0xFFFFFFFF])
def test_sizes_that_lie_take_no_memory(kind: bytes, side: int) -> None:
    payload = encoded("raw" if kind == b"r" else "jpeg")[52:]
    tracemalloc.start()
    try:
        with pytest.raises(DamagedRecordError):
            decode_record(with_header(payload, kind, side, side))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def settled(path: Path) -> None:
    """Date a file back, so that its times can be trusted."""
    past = time.time_ns() - 10_000_000_000
    os.utime(path, ns=(past, past))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    monkeypatch.setattr("yolo.data.cache.pictures.time.time_ns", lambda: now + 10_000_000_000)


@pytest.mark.usefixtures("later")
def test_facts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"content")
    facts = SourceFacts.of(file)
    assert facts == SourceFacts.of(str(file))
    assert (facts.size, facts.mtime_ns, facts.ctime_ns) == (7, file.stat().st_mtime_ns, file.stat().st_ctime_ns)
    assert len(facts.digest) == 16 and facts.unchanged(file)
    settled(file)  # touched
    assert facts.unchanged(file)
    file.write_bytes(b"another")
    assert not facts.unchanged(file)
    file.write_bytes(b"content!")
    assert not facts.unchanged(file)
    file.unlink()
    assert not facts.unchanged(file)


@pytest.mark.usefixtures("later")
def test_files_with_known_times_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"content")
    facts = SourceFacts.of(file)
    monkeypatch.setattr(SourceFacts, "of", None)
    assert facts.unchanged(file)


def test_a_file_changed_within_a_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    """Of a new file the times cannot be trusted: it could be written again without another time."""
    file = tmp_path / "a"
    file.write_bytes(b"content")
    facts = SourceFacts.of(file)
    assert facts.ctime_ns == 0
    os.utime(file, ns=(facts.mtime_ns, facts.mtime_ns))
    assert facts.unchanged(file)
    file.write_bytes(b"another")
    os.utime(file, ns=(facts.mtime_ns, facts.mtime_ns))
    assert not facts.unchanged(file)


def test_what_is_no_file_has_no_facts(tmp_path: Path) -> None:
    none = SourceFacts(0, 0, 0, bytes(16))
    for path in ("s3://bucket/a.jpg", tmp_path, tmp_path / "missing", "a\0b", "/dev/null"):
        assert SourceFacts.of(path) == none
        assert none.unchanged(path)
    assert not FACTS.unchanged("s3://bucket/a.jpg")
