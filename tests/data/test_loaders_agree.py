"""Every loader comes to the same decision, and to the same pixels, about every file of the hostile corpus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from yolo.core.errors import YoloError
from yolo.core.images import ImageWarning
from yolo.core.reduction import reduced_scale, reduction
from yolo.data.encryption import Key, encrypt
from yolo.data.loaders import DefaultImageLoader, EncryptedImageLoader, FastImageLoader, ImageLoader, TurboJPEGLoader

SHARED = Path(os.environ.get("YOLO_SHARED", Path(__file__).parents[3] / "shared"))
INDEX = SHARED / "datasets/hostile/index.json"
CASES: list[dict[str, Any]] = json.loads(INDEX.read_text("utf-8"))["cases"] if INDEX.is_file() else []
HEAVY = {"images/large_12000x9000_1bit.png", "images/png_header_lies_8000x8000.png"}
BOMBS = ["bomb_30000x30000_1bit.png", "bomb_jpeg_header_60000.jpg", "png_ztxt_bomb.png"]
SECRET = "0123456789abcdef" * 4
OTHERS: dict[str, ImageLoader] = {
    "fast": FastImageLoader(),
    "fast without mmap": FastImageLoader(use_mmap=False),
    "turbojpeg": TurboJPEGLoader(),
    "encrypted": EncryptedImageLoader(key=SECRET),
    "encrypted, Pillow": EncryptedImageLoader(key=SECRET, use_opencv=False),
}
LOADERS = {"default": DefaultImageLoader(), **OTHERS}
#: Largest difference of a pixel between decoders: other builds of libjpeg may round otherwise; here it is 0.
TOLERANCE = 2


def judge(loader: ImageLoader, path: Path, least: tuple[int, int] | None = None) -> tuple[str, str, np.ndarray | None]:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            image = loader.read(str(path), least=least)
        except YoloError as error:
            return "refuse", str(error), None
    texts = [str(warning.message) for warning in heard if warning.category is ImageWarning]
    return ("repair" if texts else "accept"), " ".join(texts), image


def params() -> list[Any]:
    found = [case for case in CASES if case["group"] == "images"]
    return [
        pytest.param(case, id=case["path"], marks=[pytest.mark.slow] if case["path"] in HEAVY else []) for case in found
    ]


def same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == np.uint8
    assert ours.flags.c_contiguous
    assert np.abs(ours.astype(int) - theirs).max() <= TOLERANCE


@pytest.mark.parametrize("name", [*OTHERS, ".enc", ".enc, Pillow"])
@pytest.mark.parametrize("case", params())
def test_hostile_images(case: dict[str, Any], name: str, datasets: Path, tmp_path: Path) -> None:
    path = datasets / "hostile" / case["path"]
    outcome, text, expected = judge(DefaultImageLoader(), path)
    kinder = {"accept": "repair", "repair": "accept"}  # the corpus calls a conversion a repair
    allowed = {"refuse" if word == "ignore" else word for word in case["expect"]}
    if "ignore" not in case["expect"]:
        assert outcome in allowed or kinder.get(outcome) in allowed
    loader = OTHERS["encrypted, Pillow" if "Pillow" in name else "encrypted"] if ".enc" in name else OTHERS[name]
    if ".enc" in name:
        if not path.is_file():
            pytest.skip("nothing to encrypt")
        sealed = tmp_path / f"{path.name}.enc"
        sealed.write_bytes(encrypt(path.read_bytes(), Key(bytes.fromhex(SECRET))))
        text, path = text.replace(repr(str(path)), repr(str(sealed))), sealed
    got, message, image = judge(loader, path)
    assert got == outcome, message
    assert message == text  # in the same words
    if outcome != "accept":
        assert path.name in message
    if image is not None and expected is not None:
        same(image, expected)
        assert list(image.shape[:2]) == case.get("size", [image.shape[1], image.shape[0]])[::-1]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("least", [(200, 150), (160, 120), (81, 60), (80, 60), (40, 30), (1, 1)])
def test_reduced_pictures(name: str, least: tuple[int, int], datasets: Path) -> None:
    for file in ("control", "exif_orientation_6", "exif_orientation_3", "cmyk", "gray", "progressive", "mpo"):
        path = datasets / f"hostile/images/{file}.jpg"
        _, _, expected = judge(DefaultImageLoader(), path, least)
        _, _, image = judge(OTHERS[name], path, least)
        assert expected is not None and image is not None
        assert image.shape[:2] == (240 // (factor := reduction((320, 240), least)), 320 // factor)
        same(image, expected)
    _, _, image = judge(OTHERS[name], datasets / "hostile/images/truncated.jpg", least)
    assert image is None, "a reduced picture of half a file"


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(203, 149), (208, 160)])
def test_orientation_and_reduction(name: str, orientation: int, size: tuple[int, int], tmp_path: Path) -> None:
    """A reduced picture lies where the whole one lies: pixel i covers the pixels from i * d to (i + 1) * d."""
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    pixels = np.stack([across, down, 90 + 0 * across], axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
    whole = LOADERS[name].read(str(path)).astype(float)
    height, width = whole.shape[:2]
    for least in ((width // 2, height // 2), (width // 8, height // 8)):
        small = LOADERS[name].read(str(path), least=least).astype(float)
        factor = reduction((width, height), least, turned=orientation > 1)
        assert factor == 1 or small.shape[1] < width
        assert reduced_scale((width, height), small.shape[1::-1]) == (1 / factor, 1 / factor)
        rows, columns = height // factor, width // factor
        blocks = whole[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3).mean((1, 3))
        assert np.abs(small[:rows, :columns] - blocks).max() < 4


def test_reduction_leaves_what_is_needed() -> None:
    assert [reduction((640, 480), (width, 1)) for width in (640, 321, 320, 160, 80, 1)] == [1, 1, 2, 4, 8, 8]
    assert reduction((640, 480), (80, 61)) == 4
    assert reduction((641, 480), (80, 60)) == 8
    assert reduction((641, 480), (80, 60), turned=True) == 1
    assert reduction((3, 1), (1, 1)) == 1
    assert reduced_scale((641, 480), (81, 60)) == (1 / 8, 1 / 8)
    assert reduced_scale((640, 480), (640, 480)) == (1.0, 1.0)
    assert reduced_scale((640, 480), (64, 48)) == (0.1, 0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux counts it")
def test_bombs_are_refused_before_memory_is_taken(datasets: Path) -> None:
    code = (
        "import resource, sys\n"
        "from yolo.core.errors import YoloError\n"
        "from yolo.data.loaders import open_loader\n"
        "loaders = [open_loader(name) for name in ('default', 'fast', 'turbojpeg', 'encrypted')]\n"
        "for loader in loaders: loader.read(sys.argv[1])\n"
        "before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0\n"
        "for path in sys.argv[2:]:\n"
        "    for loader in loaders:\n"
        "        try: loader.read(path, least=(64, 64))\n"
        "        except YoloError: refused += 1\n"
        "print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    folder = datasets / "hostile/images"
    paths = [str(folder / name) for name in ("control.jpg", *BOMBS)]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    refused, kilobytes = map(int, done.stdout.split())
    assert refused == 4 * len(BOMBS), done.stderr
    assert kilobytes < 40_000


@pytest.mark.parametrize("name", ["default", *OTHERS])
def test_sixteen_bit_colours_are_rounded_by_all(name: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (32, 48, 3), np.uint16)
    assert cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    loader = OTHERS.get(name) or DefaultImageLoader()
    wanted = np.rint(values / 257).astype(np.uint8)
    assert np.array_equal(loader.read(str(tmp_path / "a.png")), wanted)
    sealed = tmp_path / "a.png.enc"
    sealed.write_bytes(encrypt((tmp_path / "a.png").read_bytes(), Key(bytes.fromhex(SECRET))))
    if "encrypted" in name:
        assert np.array_equal(loader.read(str(sealed)), wanted)
