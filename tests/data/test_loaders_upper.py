"""The upper part of a JPEG, decoded without the rest."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from yolo.core.decoders.header import plain_header
from yolo.core.errors import YoloError
from yolo.data.loaders import DefaultImageLoader, ImageLoader, TurboJPEGLoader
from yolo.data.loaders.turbojpeg import _OPTIONS, open_turbojpeg
from yolo.data.loaders.upper import decode_upper

WIDTH, HEIGHT = 203, 301


@pytest.fixture(autouse=True)
def library() -> None:
    if open_turbojpeg() is None:
        pytest.skip("libjpeg-turbo or PyTurboJPEG is not installed")


def write(path: Path, *, grey: bool = False, **options: object) -> str:
    small = np.random.default_rng(0).integers(0, 256, (HEIGHT // 3, WIDTH // 3, 3), np.uint8)
    image = Image.fromarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    (image.convert("L") if grey else image).save(path, quality=90, **options)
    return str(path)


def upper_only(data: bytes, rows: int, factor: int = 1) -> np.ndarray | None:
    header = plain_header(data)
    assert header is not None
    return decode_upper(data, header, factor, rows, open_turbojpeg(), _OPTIONS)


@pytest.mark.parametrize("kind", ["4:4:4", "4:2:2", "4:2:0", "grey", "optimised"])
@pytest.mark.parametrize("least", [None, (100, 150), (50, 75), (25, 37)])
def test_the_rows_asked_for_are_those_of_the_whole(kind: str, least: tuple[int, int] | None, tmp_path: Path) -> None:
    """To the bit, also where the colours of neighbouring rows are blended, and one row more to interpolate."""
    options = {"subsampling": kind} if ":" in kind else {"grey": kind == "grey", "optimize": kind == "optimised"}
    path = write(tmp_path / "a.jpg", **options)
    loader = TurboJPEGLoader()
    full = loader.read(path, least=least)
    factor = -(-HEIGHT // full.shape[0])
    left_out = 0
    for rows in range(1, HEIGHT + 1):
        upper = loader.read(path, least=least, rows=rows)
        needed = min(len(full), -(-rows // factor) + 1)
        np.testing.assert_array_equal(upper[:needed], full[:needed])
        assert upper.shape == full.shape
        left_out += int((upper[-1] == 0).all() and (full[-1] != 0).any())
    assert left_out > 200


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("progressive.jpg", {"progressive": True}),
        ("restarts.jpg", {"restart_marker_rows": 1}),
        ("plain.png", {}),
    ],
)
def test_other_files_come_whole(name: str, options: dict[str, object], tmp_path: Path) -> None:
    path = write(tmp_path / name, **options)
    np.testing.assert_array_equal(TurboJPEGLoader().read(path, rows=20), TurboJPEGLoader().read(path))
    if name.endswith("jpg"):
        assert upper_only(Path(path).read_bytes(), 20) is None


def test_turned_files_come_whole(tmp_path: Path) -> None:
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = write(tmp_path / f"{orientation}.jpg", exif=exif)
        np.testing.assert_array_equal(TurboJPEGLoader().read(path, rows=20), DefaultImageLoader().read(path))


def test_several_scans_come_whole(tmp_path: Path) -> None:
    """A first scan that holds only some of the colours: their rows are not complete from the top."""
    data = bytearray(Path(write(tmp_path / "a.jpg")).read_bytes())
    assert upper_only(bytes(data), 100) is not None
    data[data.index(b"\xff\xda") + 4] = 1
    assert upper_only(bytes(data), 100) is None


def test_loaders_that_do_not_know_rows_are_not_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    whole = DefaultImageLoader().read(path)
    np.testing.assert_array_equal(DefaultImageLoader().read(path, rows=3), whole)

    class Croppable(DefaultImageLoader):
        can_crop = True

    np.testing.assert_array_equal(Croppable().read(path, rows=3), whole)
    assert Croppable().read(path, least=(20, 30), rows=3).shape == DefaultImageLoader().read(path, least=(20, 30)).shape
    assert not ImageLoader.can_crop


@pytest.mark.parametrize("marker", [b"\xff\xd9", b"\xff\xd0", b"\xff\xc4"])
def test_damage_in_the_upper_part_is_left_to_the_careful_reader(marker: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    data = bytearray(Path(write(path)).read_bytes())
    start = data.index(b"\xff\xda") + 14
    data[start + 400 : start + 500] = marker * 50
    path.write_bytes(data)
    assert upper_only(bytes(data), 150) is None
    assert outcome(path, 150) == outcome(path, None)


def test_wrong_bits_show_as_without(tmp_path: Path) -> None:
    """Whatever a flipped bit in the rows asked for does to the picture, or to the file, it does here too."""
    sound = Path(write(tmp_path / "a.jpg", subsampling="4:2:0")).read_bytes()
    start = sound.index(b"\xff\xda") + 14
    rng = np.random.default_rng(0)
    used = 0
    for _ in range(200):
        data = bytearray(sound)
        data[start + int(rng.integers(0, (len(data) - start) // 3))] ^= 1 << int(rng.integers(8))
        used += upper_only(bytes(data), 240) is not None
        path = tmp_path / "b.jpg"
        path.write_bytes(data)
        assert outcome(path, 240, 240) == outcome(path, None, 240)
    assert used > 20


def test_a_file_that_ends_early_is_judged_as_without(tmp_path: Path) -> None:
    whole = Path(write(tmp_path / "a.jpg")).read_bytes()
    for cut in (whole[: len(whole) // 2], whole[: len(whole) // 2] + b"\xff\xd9", whole[:-2]):
        path = tmp_path / "cut.jpg"
        path.write_bytes(cut)
        for rows in (100, 250, 290):
            assert outcome(path, rows, rows) == outcome(path, None, rows)


def test_an_end_just_behind_the_rows_is_no_success(tmp_path: Path) -> None:
    """A file with fewer rows than its header says is damaged, though none is asked for that it lacks."""
    Image.open(write(tmp_path / "a.jpg")).crop((0, 0, WIDTH, 104)).save(tmp_path / "b.jpg", subsampling="4:4:4")
    data = bytearray((tmp_path / "b.jpg").read_bytes())
    header = plain_header(bytes(data))
    assert header is not None
    data[header.pixels_from + 5 : header.pixels_from + 7] = HEIGHT.to_bytes(2, "big")
    assert upper_only(bytes(data), 100) is None
    (tmp_path / "b.jpg").write_bytes(data)
    assert outcome(tmp_path / "b.jpg", 100) == outcome(tmp_path / "b.jpg", None)


def outcome(path: Path, rows: int | None, compared: int = HEIGHT) -> bytes | str:
    """The first pixels that the loader gives, or what it says."""
    try:
        return TurboJPEGLoader().read(str(path), rows=rows)[:compared].tobytes()
    except YoloError as error:
        return str(error)
