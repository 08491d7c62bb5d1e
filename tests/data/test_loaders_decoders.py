"""What is special about the fast loaders: mapping, falling back, and what they leave to the careful reader."""

from __future__ import annotations

import logging
import os
import pickle
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from yolo.core.decoders.contents import MAPPED_ABOVE, contents
from yolo.core.decoders.header import plain_header
from yolo.core.decoders.quick import upright
from yolo.core.errors import YoloError
from yolo.data.loaders import DefaultImageLoader, FastImageLoader, TurboJPEGLoader, open_loader
from yolo.data.loaders import turbojpeg as module


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A JPEG file above the limit for mapping."""
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1400, 3), np.uint8)
    path = tmp_path / "large.jpg"
    Image.fromarray(noise).save(path, quality=90)
    assert path.stat().st_size > MAPPED_ABOVE
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="counts the bytes read through /proc")
@pytest.mark.parametrize("kind", [FastImageLoader, TurboJPEGLoader])
def test_a_large_file_is_mapped_and_not_read(kind: type[FastImageLoader], large: Path) -> None:
    def bytes_read(loader: FastImageLoader) -> int:
        loader.read(str(large))
        before = _counter()
        loader.read(str(large))
        return _counter() - before

    assert bytes_read(kind(use_mmap=True)) < 20_000
    assert bytes_read(kind(use_mmap=False)) >= large.stat().st_size
    np.testing.assert_array_equal(
        kind(use_mmap=True).read(str(large), least=(300, 300)), DefaultImageLoader().read(str(large), least=(300, 300))
    )
    large.write_bytes(large.read_bytes()[:-1000])  # cut, and still above the limit
    with pytest.raises(YoloError, match=r"large\.jpg"):
        kind().read(str(large))


def _counter() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def test_contents_takes_regular_files_only(tmp_path: Path, large: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in ("empty.jpg", "pipe.jpg", "absent.jpg", ".", "nul\0.jpg"):
        with contents(str(tmp_path / path), use_mmap=True) as data:
            assert data is None, path
    with contents(str(large), use_mmap=True) as data:
        view = np.frombuffer(data or b"", np.uint8)
    assert view[0] == 0xFF  # a view that outlives the block keeps the mapping alive


def test_fast_decoders_are_used_for_ordinary_files(datasets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every comparison of loaders would hold because all of them are the default loader."""
    monkeypatch.setattr("yolo.data.loaders.fast.read_image", lambda path, **_: pytest.fail(f"{path} went to Pillow"))
    for name in ("control.jpg", "gray.jpg", "exif_orientation_6.jpg", "progressive.jpg", "mpo.jpg", "rgba.png"):
        for loader in (FastImageLoader(), TurboJPEGLoader()):
            assert loader.read(str(datasets / "hostile/images" / name)).ndim == 3


def test_turbojpeg_decodes_jpeg_itself(datasets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if module.open_turbojpeg() is None:
        pytest.skip("libjpeg-turbo or PyTurboJPEG is not installed")
    monkeypatch.setattr("yolo.data.loaders.fast.decode_opencv", lambda *_: pytest.fail("OpenCV decoded"))
    assert TurboJPEGLoader().read(str(datasets / "hostile/images/control.jpg")).shape == (240, 320, 3)


@pytest.fixture
def broken_turbojpeg(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTurboJPEG absent; its library absent; PyTurboJPEG 2 with an older library; a symbol missing."""

    def decoder(error: Exception) -> type:
        def fail(self: object, lib_path: str | None = None) -> None:
            raise error

        return type("TurboJPEG", (), {"__init__": fail})

    fake: Any = None
    if request.param is not None:
        fake = ModuleType("turbojpeg")
        fake.TurboJPEG = decoder(request.param)
    monkeypatch.setitem(sys.modules, "turbojpeg", fake)
    module.open_turbojpeg.cache_clear()
    yield
    module.open_turbojpeg.cache_clear()


@pytest.mark.usefixtures("broken_turbojpeg")
@pytest.mark.parametrize(
    "broken_turbojpeg",
    [
        None,
        RuntimeError("Unable to locate turbojpeg library automatically.\nSpecify lib_path."),
        OSError("libturbojpeg.so.0: cannot open shared object file"),
        RuntimeError("libjpeg-turbo 3.0 or later is required"),
        AttributeError("undefined symbol: tj3Init"),
    ],
    indirect=True,
)
def test_falls_back_with_one_line_that_says_how_to_install(datasets: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(datasets / "hostile/images/control.jpg")
    with caplog.at_level(logging.INFO, "yolo.data"):
        for _ in range(3):
            loader = pickle.loads(pickle.dumps(open_loader("turbojpeg")))
            np.testing.assert_array_equal(loader.read(path), FastImageLoader().read(path))
    (line,) = caplog.messages
    assert "TurboJPEG is not available" in line
    assert "OpenCV" in line
    assert 'pip install "PyTurboJPEG<2"' in line
    assert "\n" not in line


def test_workers_do_not_repeat_the_line(tmp_path: Path) -> None:
    (tmp_path / "turbojpeg.py").write_text("raise ImportError('no library here')\n")
    (tmp_path / "main.py").write_text(
        "import logging, multiprocessing\n"
        "from yolo.data.loaders import TurboJPEGLoader\n"
        "logging.basicConfig()\n"
        "if __name__ == '__main__':\n"
        "    loader = TurboJPEGLoader()\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "        print(pool.map(type, [loader, loader]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(tmp_path / "main.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr.count("no library here") == 1, done.stderr


def test_decoding_in_threads(datasets: Path) -> None:
    path = str(datasets / "hostile/images/control.jpg")
    expected, wrong = DefaultImageLoader().read(path), []
    loader = TurboJPEGLoader()

    def decode() -> None:
        for _ in range(30):
            if not np.array_equal(loader.read(path), expected):
                wrong.append(1)

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(orientation: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(upright(pixels, orientation), DefaultImageLoader().read(str(tmp_path / "a.png")))


def test_headers_of_files_that_are_not_ordinary(datasets: Path, tmp_path: Path) -> None:
    folder = datasets / "hostile/images"
    for name in ("truncated", "truncated_last_2_bytes", "truncated_header", "cmyk", "exif_garbage", "zero_byte"):
        assert plain_header((folder / f"{name}.jpg").read_bytes()) is None, name
    for name in ("adam7", "gray16", "rgb48", "palette", "bilevel", "gray_alpha", "png_ztxt_bomb"):
        assert plain_header((folder / f"{name}.png").read_bytes()) is None, name
    header = plain_header((folder / "exif_orientation_6.jpg").read_bytes())
    assert header is not None
    assert (header.stored, header.size, header.orientation) == ((240, 320), (320, 240), 6)
    assert plain_header((folder / "trailing_garbage.jpg").read_bytes()) is not None

    frames = [Image.new("RGB", (8, 6), (level, 0, 0)) for level in (0, 90)]
    frames[0].save(tmp_path / "animated.png", save_all=True, append_images=frames[1:])
    data = (tmp_path / "animated.png").read_bytes()
    assert plain_header(data) is None
    Image.new("RGB", (8, 6)).save(tmp_path / "plain.png")
    data = (tmp_path / "plain.png").read_bytes()
    assert plain_header(data) is not None
    assert all(plain_header(data[:length]) is None for length in range(len(data) - 8))
    chunk = struct.pack(">I4s", 1 << 31, b"IDAT")  # a length that leads nowhere
    assert plain_header(data[:33] + chunk) is None
    key = b"tRNS" + bytes(6)  # one colour is transparent
    assert plain_header(data[:33] + struct.pack(">I", 6) + key + struct.pack(">I", zlib.crc32(key)) + data[33:]) is None


def test_random_damage_is_the_same_for_all(datasets: Path, tmp_path: Path) -> None:
    """Cut or changed anywhere, a file is accepted or refused by all loaders alike."""
    rng = np.random.default_rng(0)
    loaders = (DefaultImageLoader(), FastImageLoader(), TurboJPEGLoader())
    for name in ("control.jpg", "progressive.jpg", "chroma_444_q100.jpg", "rgba.png"):
        whole = (datasets / "hostile/images" / name).read_bytes()
        for turn in range(24):
            data = bytearray(whole)
            place = int(rng.integers(2, len(whole)))
            if turn % 2:
                del data[place:]
            else:
                data[place] ^= 0xFF
            path = tmp_path / f"{turn}{name}"
            path.write_bytes(bytes(data))
            shapes = []
            for loader in loaders:
                try:
                    shapes.append(loader.read(str(path)).shape)
                except YoloError as error:
                    assert path.name in str(error)
                    shapes.append(())
            assert len(set(shapes)) == 1, (name, turn, place, shapes)


def test_opencv_of_this_release_keeps_the_stored_pixels(datasets: Path) -> None:
    """The fast decoder relies on OpenCV not turning pictures on its own account when asked not to."""
    data = np.fromfile(datasets / "hostile/images/exif_orientation_6.jpg", np.uint8)
    for flag in (cv2.IMREAD_COLOR, cv2.IMREAD_REDUCED_COLOR_2):
        image = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION)
        assert image is not None
        assert image.shape[0] > image.shape[1]
