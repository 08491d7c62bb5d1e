"""Sizes from headers equal the sizes of the decoded, upright pictures."""

from __future__ import annotations

import json
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from yolo.core.errors import YoloError
from yolo.core.images import read_image
from yolo.data.formats.scan import image_files
from yolo.data.formats.sizes import _quick, read_sizes
from yolo.data.loaders import DefaultImageLoader

SHARED = Path(os.environ.get("YOLO_SHARED", Path(__file__).parents[3] / "shared"))
INDEX = SHARED / "datasets/hostile/index.json"
CASES: list[dict[str, Any]] = json.loads(INDEX.read_text("utf-8"))["cases"] if INDEX.is_file() else []


def one(path: Path) -> tuple[int, int]:
    width, height = read_sizes([str(path)], DefaultImageLoader())[0]
    return int(width), int(height)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["path"]) for case in CASES if case["group"] == "images" and "size" in case]
)
def test_hostile_images(case: dict[str, Any], datasets: Path) -> None:
    path = datasets / "hostile" / case["path"]
    if not path.is_file():
        pytest.skip("not a file in this copy")
    try:
        size = one(path)
    except YoloError as error:
        assert path.name in str(error)
        assert "refuse" in case["expect"], str(error)
        return
    assert list(size) == case["size"]


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
def test_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    height, width = read_image(path).shape[:2]
    assert one(path) == (width, height)


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_in_both_byte_orders(tmp_path: Path, order: str) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30)).save(path, exif=b"Exif\0\0" + tiff)
    assert _quick(str(path)) == (30, 40) == one(path)
    assert read_image(path).shape[:2] == (40, 30)


def test_orientation_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(path)
    assert _quick(str(path)) == (40, 30)
    data = path.read_bytes()
    payload = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    chunk = struct.pack(">I", len(payload)) + b"eXIf" + payload
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    path.write_bytes(data[:-12] + chunk + data[-12:])
    height, width = read_image(path).shape[:2]
    assert one(path) == (width, height)


def test_large_headers_and_other_files_take_the_careful_way(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30)).save(path, icc_profile=b"x" * 60000)
    assert _quick(str(path)) is None
    assert one(path) == (40, 30)
    with pytest.raises(YoloError, match=r"gone\.jpg.*\(1 more"):
        read_sizes([str(path), str(tmp_path / "gone.jpg"), str(tmp_path)], DefaultImageLoader())


def test_same_files_as_prediction_finds(tmp_path: Path) -> None:
    from yolo.core.images import find_images

    for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.tif", "._e.jpg", ".f.jpg", "g.txt", "jpg", "h.jpg.bak"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert image_files(tmp_path) == sorted(str(path) for path in find_images(tmp_path))
    assert len(image_files(tmp_path)) == 6


def test_real_images(datasets: Path) -> None:
    paths = image_files(datasets / "tiny-coco/images/val")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sizes = read_sizes(paths, DefaultImageLoader())
    for path, size in zip(paths[:10], sizes[:10].tolist(), strict=True):
        assert read_image(path).shape[:2] == (size[1], size[0])
