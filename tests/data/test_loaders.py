"""Image loaders: choosing one, the contract, open files, and odd pictures."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.core.plugins import registry
from yolo.data.loaders import DefaultImageLoader, ImageLoader, open_loader
from yolo.data.testing.loaders import LoaderContract


class PillowLoader(ImageLoader):
    """What users write: a PIL image comes back."""

    def __init__(self, bucket: str = "none") -> None:
        self.bucket = bucket

    def __call__(self, path: str) -> Image.Image:
        with Image.open(path) as image:
            image.load()
            return image.convert("RGB")


class WrongLoader(ImageLoader):
    def __init__(self, value: object) -> None:
        self.value = value

    def __call__(self, path: str):  # type: ignore[no-untyped-def]  # on purpose
        return self.value


class TestCustom(LoaderContract):
    @pytest.fixture
    def loader(self) -> ImageLoader:
        return PillowLoader()

    def test_works_in_a_spawned_worker(self) -> None:  # type: ignore[override]
        pytest.skip("a class of a test module cannot be imported in a spawned process")


@pytest.mark.parametrize("name", registry("image_loaders").names())
class TestRegistered(LoaderContract):
    @pytest.fixture
    def loader(self, name: str) -> ImageLoader:
        return open_loader(name)


def test_default_without_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "yolo.data"):
        assert isinstance(open_loader(None), DefaultImageLoader)
        assert isinstance(open_loader("default"), DefaultImageLoader)
        assert isinstance(open_loader({"class_path": "yolo.data.loaders.DefaultImageLoader"}), DefaultImageLoader)
    assert not caplog.records


@pytest.fixture
def my_loaders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_loaders.py").write_text(
        "from yolo.data.loaders import ImageLoader\n"
        "class Cloud(ImageLoader):\n"
        "    def __init__(self, bucket): self.bucket = bucket\n"
        "    def __call__(self, path): ...\n"
        "class NoLoader: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_loaders", raising=False)


@pytest.mark.usefixtures("my_loaders")
def test_custom_loader_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "yolo.data"):
        loader = open_loader({"class_path": "my_loaders.Cloud", "init_args": {"bucket": "b"}})
    assert loader.bucket == "b"  # type: ignore[attr-defined]
    assert "📷 Using custom image loader: Cloud" in caplog.text


@pytest.mark.usefixtures("my_loaders")
def test_arguments_as_jsonargparse_leaves_them() -> None:
    loader = open_loader({"class_path": "my_loaders.Cloud", "bucket": "b"})
    assert loader.bucket == "b"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("my_loaders")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("defualt", "default"),
        ({"class_path": "my_loaders.NoLoader"}, "not a subclass"),
        ({"class_path": "my_loaders.Cloud"}, "init_args.*bucket"),
        ({"class_path": "my_loaders.Cloud", "init_args": {"bucket": 1, "x": 2}}, "init_args.*x"),
    ],
)
def test_wrong_choices(value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_loader(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "returned NoneType"),
        (np.zeros((4, 4), np.uint8), r"uint8 \[4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
    ],
)
def test_wrong_results_name_the_path(value: object, message: str) -> None:
    with pytest.raises(YoloError, match=message) as caught:
        WrongLoader(value).read("a/b.jpg")
    assert "a/b.jpg" in str(caught.value)


def test_grey_image_becomes_rgb() -> None:
    assert WrongLoader(Image.new("L", (5, 4), 7)).read("x").shape == (4, 5, 3)


def test_pil_images_follow_the_rules_of_the_default_loader(tmp_path: Path) -> None:
    """EXIF orientation applied once, 16 bits scaled and not clipped to white: whoever decoded the file."""

    class Lazy(ImageLoader):
        def __call__(self, path: str) -> Image.Image:
            return Image.open(path)

    photo = Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.full((8, 9), 32768, np.uint16)).save(tmp_path / "grey16.png")
    for loader in (Lazy(), PillowLoader()):
        turned = loader.read(str(tmp_path / "turned.jpg"))
        assert turned.shape == (40, 30, 3)
        np.testing.assert_array_equal(turned, DefaultImageLoader().read(str(tmp_path / "turned.jpg")))
    assert Lazy().read(str(tmp_path / "grey16.png")).tolist() == np.full((8, 9, 3), 128).tolist()
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "turned.jpg").read_bytes()[:-200])
    with pytest.raises(YoloError, match=r"cut\.jpg"):
        Lazy().read(str(tmp_path / "cut.jpg"))


def test_any_exception_names_the_path() -> None:
    class Broken(ImageLoader):
        def __call__(self, path: str) -> Image.Image:
            raise KeyError("secret")

    with pytest.raises(YoloError, match=r"a\.jpg: Broken cannot load it: KeyError"):
        Broken().read("a.jpg")


def test_ten_thousand_images_under_a_low_limit_of_open_files(tmp_path: Path) -> None:
    Image.new("RGB", (32, 24), (10, 20, 30)).save(tmp_path / "a.jpg")
    Image.new("RGB", (32, 24), (10, 20, 30)).save(tmp_path / "a.png")
    Image.new("RGB", (1000, 800), (10, 20, 30)).save(tmp_path / "large.bmp")  # 2.4 MB
    code = (
        "import sys\n"
        "from yolo.core.plugins import registry\n"
        "from yolo.data.encryption import encrypt, find_key\n"
        "from yolo.data.loaders import open_loader\n"
        "sealed = encrypt(open(sys.argv[1] + '/a.jpg', 'rb').read(), find_key())\n"
        "open(sys.argv[1] + '/a.jpg.enc', 'wb').write(sealed)\n"
        "for name in registry('image_loaders').names():\n"
        "    loader, second = open_loader(name), '/a.jpg.enc' if name == 'encrypted' else '/a.png'\n"
        "    kept = [loader(sys.argv[1] + kind) for _ in range(1250) for kind in ('/a.jpg', second)]\n"
        "    kept += [loader.read(sys.argv[1] + '/large.bmp', least=(9, 9))[:1, :1].copy() for _ in range(100)]\n"
        "    print(name, len(kept))\n"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'ulimit -n 256 && exec {sys.executable} -c "$0" "$1"', code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"YOLO_ENCRYPTION_KEY": "5a" * 32},
    )
    assert done.stdout.splitlines() == [f"{name} 2600" for name in registry("image_loaders").names()], done.stderr


def test_arguments_without_a_class_are_refused_without_showing_them() -> None:
    with pytest.raises(UsageError, match="class_path is missing") as caught:
        open_loader({"init_args": {"key": "5a" * 32}})
    assert "5a5a" not in str(caught.value)
