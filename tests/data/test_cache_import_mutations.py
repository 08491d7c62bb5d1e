"""Good archives, changed at random: unpacked as they were, or refused; nothing else ever changes."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yolo.core.errors import YoloError
from yolo.data.cache.archive import export_cache, import_cache
from yolo.data.cache.readers import database_file

NAME = ".yolo_cache_96x96_f1.0"


@pytest.fixture(scope="module")
def original(made_cache: Callable[..., Path]) -> Path:
    """A complete cache, small."""
    return made_cache("val")


@pytest.fixture(scope="module")
def plain(original: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good archive."""
    return export_cache(original, tmp_path_factory.mktemp("plain") / "a.tar", compression="none").read_bytes()


def contents(root: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(root)): path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in root.rglob("*")
    }


def check_mutation(content: bytes, original: Path, place: Path, archive: Path) -> None:
    archive.write_bytes(content)
    before = contents(place)
    try:
        folder = import_cache(archive, place / "in")
    except YoloError:
        assert contents(place) == before
        return
    assert database_file(folder).read_bytes() == database_file(original).read_bytes()
    shutil.rmtree(folder)
    assert contents(place) == before


_SETTINGS = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@_SETTINGS
@given(changes=st.lists(st.tuples(st.integers(0, 2600), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_headers_never_reach_outside(
    plain: bytes, original: Path, place: Path, tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(plain)
    for position, value in changes:
        content[position] = value
    check_mutation(bytes(content), original, place, tmp_path / "a.tar")


@_SETTINGS
@given(data=st.data())
def test_cut_moved_and_doubled_pieces_never_reach_outside(
    plain: bytes, original: Path, place: Path, tmp_path: Path, data: st.DataObject
) -> None:
    blocks = len(plain) // 512
    position = data.draw(st.integers(0, min(6, blocks - 1))) * 512
    length = data.draw(st.integers(1, 6)) * 512
    piece = plain[position : position + length]
    kind = data.draw(st.sampled_from(["remove", "double", "noise", "cut"]))
    noise = data.draw(st.binary(max_size=600))
    content = {
        "remove": plain[:position] + plain[position + length :],
        "double": plain[:position] + piece + plain[position:],
        "noise": plain[:position] + noise + plain[position:],
        "cut": plain[: data.draw(st.integers(0, len(plain) - 1))],
    }[kind]
    if data.draw(st.booleans()):
        content = gzip.compress(content, 1)
    check_mutation(content, original, place, tmp_path / "a.tar")


@_SETTINGS
@given(changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_compressed_streams_never_reach_outside(
    plain: bytes, original: Path, place: Path, tmp_path: Path, changes: list[tuple[float, int]]
) -> None:
    content = bytearray(gzip.compress(plain, 1, mtime=0))
    for where, value in changes:
        content[int(where * len(content))] = value
    check_mutation(bytes(content), original, place, tmp_path / "a.tar")
