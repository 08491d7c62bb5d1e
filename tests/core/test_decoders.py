"""The quick way to read a picture decides as the careful one, and gives its pixels."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo.core import decoders
from yolo.core.decoders import decode_picture, read_picture
from yolo.core.images import ImageError, ImageWarning, decode_image, read_image
from yolo.core.sources import iter_items, read_item

HEAVY = {"images/large_12000x9000_1bit.png", "images/png_header_lies_8000x8000.png"}
TOLERANCE = 2  # grey levels: another build of libjpeg may round otherwise; here it is 0


def judge(read: Callable[..., np.ndarray], *arguments: Any, **options: Any) -> tuple[str, np.ndarray | None]:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            pixels = read(*arguments, **options)
        except ImageError as error:
            return str(error), None
    return " ".join(str(one.message) for one in heard if one.category is ImageWarning), pixels


def test_hostile_files_are_read_or_refused_in_the_same_words(datasets: Path) -> None:
    cases = json.loads((datasets / "hostile/index.json").read_text("utf-8"))["cases"]
    paths = [datasets / "hostile" / case["path"] for case in cases if case["group"] == "images"]
    paths = [path for path in paths if f"images/{path.name}" not in HEAVY]
    for path in paths:
        wanted = judge(read_image, path)
        compare(path, judge(read_picture, path), wanted)
        if path.is_file():
            data = path.read_bytes()
            compare(path, judge(decode_picture, data, name="it"), judge(decode_image, data, name="it"))
    assert len(paths) > 30


def compare(path: Path, found: tuple[str, np.ndarray | None], wanted: tuple[str, np.ndarray | None]) -> None:
    assert found[0] == wanted[0], path
    assert (found[1] is None) == (wanted[1] is None), path
    if found[1] is not None and wanted[1] is not None:
        assert found[1].shape == wanted[1].shape and found[1].flags.c_contiguous and found[1].flags.writeable, path
        assert np.abs(found[1].astype(int) - wanted[1]).max() <= TOLERANCE, path


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_prediction_reads_ordinary_files_quickly(
    synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    from PIL import Image

    picture = Image.fromarray(read_image(next(synthetic_data.rglob("*.jpg"))))
    picture.save(tmp_path / f"a{suffix}")
    wanted = read_image(tmp_path / f"a{suffix}")
    monkeypatch.setattr(decoders, "read_image", lambda path: pytest.fail("the careful reader was asked"))
    (item,) = iter_items(tmp_path / f"a{suffix}")
    assert np.array_equal(read_item(item).image, wanted)
