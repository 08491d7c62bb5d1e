"""Reading pictures: every case of the hostile corpus, and folders that try to trap a scan."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from yolo.core.images import ImageError, ImageWarning, decode_image, find_images, image_size, read_image, to_rgb

HEAVY = {"images/large_12000x9000_1bit.png", "images/png_header_lies_8000x8000.png"}
EXIF = ["exif_orientation_3.jpg", "exif_orientation_5.jpg", "exif_orientation_6.jpg", "exif_orientation_8.jpg"]


def cases(shared: Path) -> list[dict[str, Any]]:
    index = json.loads((shared / "datasets/hostile/index.json").read_text(encoding="utf-8"))
    return [case for case in index["cases"] if case["group"] == "images" and not case.get("make")]


def judge(path: Path) -> tuple[str, str, np.ndarray | None]:
    """What reading does, in the words of the index."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            image = read_image(path)
        except ImageError as error:
            return "refuse", str(error), None
    texts = [str(w.message) for w in heard if w.category is ImageWarning]
    return ("repair" if texts else "accept"), " ".join(texts), image


def check(case: dict[str, Any], path: Path) -> None:
    outcome, text, image = judge(path)
    kinder = {"accept": "repair", "repair": "accept"}  # the corpus calls a conversion a repair
    assert outcome in case["expect"] or kinder.get(outcome) in case["expect"], (case, outcome, text)
    if outcome != "accept":
        assert path.name in text and "\n" not in text
    if image is not None:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.flags.c_contiguous and image.flags.writeable
        size = case.get("size", [image.shape[1], image.shape[0]])  # not stated for pictures with damaged data
        assert list(image.shape) == [size[1], size[0], 3]
        assert list(image_size(path)) == size


def test_every_hostile_image_is_used_or_refused_as_the_corpus_says(datasets):
    listed = set(find_images(datasets / "hostile/images"))
    seen = 0
    for case in cases(datasets.parent):
        path = datasets / "hostile" / case["path"]
        if case["path"] in HEAVY:
            assert list(image_size(path)) == case["size"]
        elif "ignore" in case["expect"] and path not in listed:
            seen += 1
        else:
            check(case, path)
            seen += 1
    assert seen > 50


@pytest.mark.slow
def test_large_pictures_below_the_limit_load_with_a_warning(datasets):
    for case in cases(datasets.parent):
        if case["path"] in HEAVY:
            check(case, datasets / "hostile" / case["path"])


def test_a_scan_leaves_out_what_is_no_image(datasets):
    names = {path.name for path in find_images(datasets / "hostile/images")}
    assert {"UPPER_CASE.JPG", "windows.jfif", "lzw.tif", "lossy.webp", "bmp24.bmp"} <= names
    assert not names & {"Thumbs.db", "vector.svg", "no_extension", "folder.jpg", "._apple_double.jpg"}


@pytest.mark.parametrize("name", EXIF)
def test_exif_orientation_gives_the_upright_picture(datasets, name):
    upright = read_image(datasets / "hostile/images/control.jpg").astype(int)
    turned = read_image(datasets / "hostile/images" / name).astype(int)
    assert turned.shape == upright.shape
    assert np.abs(turned - upright).mean() < 6  # another JPEG compression of the same picture


def test_all_exif_orientations_are_undone(tmp_path):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0], upright[0, 5], upright[3, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for suffix in ("png", "tif"):
        for orientation, pixels in stored.items():
            path = tmp_path / f"{orientation}.{suffix}"
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif)
            assert np.array_equal(read_image(path), upright), path.name
            assert image_size(path) == (6, 4), path.name


def test_sixteen_bits_keep_their_grey(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png")[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colours_are_rounded_like_grey(tmp_path, suffix, channels):
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, channels), np.uint16)
    values[0, :4, :3] = [[0], [257], [32896], [65535]]
    values[1, 0, :3] = [255, 40000, 128]
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), values[..., [2, 1, 0, 3][:channels]])
    wanted = np.rint(values[..., :3] / 257).astype(np.uint8)
    assert np.array_equal(read_image(path), wanted)
    assert np.array_equal(decode_image(path.read_bytes(), name="x"), wanted)
    assert np.array_equal(to_rgb(Image.open(path)), wanted)
    data = path.read_bytes()
    if suffix == "png":  # stored on its side
        exif = Image.Exif()
        exif[0x0112] = 6
        path.write_bytes(data[:33] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[33:])
        assert np.array_equal(read_image(path), np.rot90(wanted, -1))
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ImageError):
        read_image(path)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_sixteen_bit_grey_with_alpha_is_rounded(tmp_path):
    grey = np.array([[255, 257, 40000, 65535]], np.uint16)
    rows = b"\0" + np.stack([grey[0], grey[0] // 2], axis=1).astype(">u2").tobytes()

    header = (4).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([16, 4, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    pixels = decode_image(b"\x89PNG\r\n\x1a\n" + body, name="x")
    assert pixels[0].tolist() == [[value] * 3 for value in (1, 1, 156, 255)]


def test_colours_are_rgb_and_alpha_is_dropped(tmp_path):
    Image.new("RGBA", (2, 1), (250, 10, 30, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [250, 10, 30]
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, 9, 200, 30])
    palette.save(tmp_path / "p.png", transparency=bytes([0, 128]))
    assert read_image(tmp_path / "p.png")[0, 0].tolist() == [9, 200, 30]


def test_encoded_bytes_follow_the_same_rules(datasets):
    path = datasets / "hostile/images/exif_orientation_6.jpg"
    assert np.array_equal(decode_image(path.read_bytes(), name="x"), read_image(path))
    with pytest.raises(ImageError, match=r"'secret\.jpg'.*empty"):
        decode_image(b"", name="secret.jpg")


def test_awkward_names_are_found_and_read(datasets, tmp_path):
    good = datasets / "hostile/good/images/a.jpg"
    names = json.loads((datasets / "hostile/names.json").read_text(encoding="utf-8"))["names"]
    if sys.platform.startswith("linux"):
        names = [*names, os.fsdecode(b"caf\xe9-latin1.jpg")]
    for name in names:
        shutil.copy(good, tmp_path / name)
    found = find_images(tmp_path)
    assert {path.name for path in found} == set(names)
    assert all(read_image(path).shape == (240, 320, 3) for path in found)


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of Unix")
def test_traps_in_a_folder_are_survived(datasets, tmp_path):
    good = datasets / "hostile/good/images/a.jpg"
    (tmp_path / "sub").mkdir()
    shutil.copy(good, tmp_path / "sub/good.JPG")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "ring1.jpg").symlink_to("ring2.jpg")
    (tmp_path / "ring2.jpg").symlink_to("ring1.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = find_images(tmp_path)
    assert [path.name for path in found] == ["dangling.jpg", "ring1.jpg", "ring2.jpg", "good.JPG"]
    for path in found[:3]:
        with pytest.raises(ImageError, match=path.name):
            read_image(path)
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path / "sub")
