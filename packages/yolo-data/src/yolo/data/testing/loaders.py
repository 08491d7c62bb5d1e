"""What every image loader must do: subclass :class:`LoaderContract` in your tests, give it a loader.

Example::

    from yolo.data.testing.loaders import LoaderContract

    class TestCloudLoader(LoaderContract):
        @pytest.fixture
        def loader(self):
            return CloudStorageLoader(bucket="test")

Override ``picture`` when the loader cannot read a JPEG file from a folder.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo.core.errors import YoloError
from yolo.data.loaders import ImageLoader

#: Width and height of the picture that the tests load: not square, so that swapped sides are noticed.
SIZE = (96, 64)


class LoaderContract:
    """Tests that pytest collects from your subclass."""

    @pytest.fixture
    def loader(self) -> ImageLoader:
        """The loader under test."""
        raise NotImplementedError("override the fixture `loader`")

    @pytest.fixture
    def picture(self, tmp_path: Path) -> str:
        """Path of a picture of :data:`SIZE`, red on the left and blue on the right."""
        pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        pixels[:, : SIZE[0] // 2, 0] = 255
        pixels[:, SIZE[0] // 2 :, 2] = 255
        path = tmp_path / "picture.jpg"
        Image.fromarray(pixels).save(path, quality=95)
        return str(path)

    def test_is_an_image_loader(self, loader: ImageLoader) -> None:
        """It is a subclass of the base class."""
        assert isinstance(loader, ImageLoader)

    def test_gives_upright_rgb(self, loader: ImageLoader, picture: str) -> None:
        """Red comes first: a decoder that returns BGR swaps the halves."""
        pixels = loader.read(picture)
        assert pixels.shape == (SIZE[1], SIZE[0], 3)
        assert pixels.dtype == np.uint8
        left, right = pixels[8:-8, 8:24].mean((0, 1)), pixels[8:-8, -24:-8].mean((0, 1))
        assert left[0] > 200 > 60 > left[2], "the left half is red: is the order of the channels BGR?"
        assert right[2] > 200 > 60 > right[0]

    def test_gives_the_same_twice(self, loader: ImageLoader, picture: str) -> None:
        """Loading is a function of the path, and the result belongs to the caller."""
        first = loader.read(picture)
        kept = first.copy()
        second = loader.read(picture)
        np.testing.assert_array_equal(first, kept)
        np.testing.assert_array_equal(first, second)

    def test_reduces_only_as_far_as_asked(self, loader: ImageLoader, picture: str) -> None:
        """A caller that shows little may get a smaller picture, of the same shape and not below what it shows."""
        for least in ((1, 1), (SIZE[0] // 4, SIZE[1] // 4), (SIZE[0] // 2, 1), SIZE, (10 * SIZE[0], 10 * SIZE[1])):
            pixels = loader.read(picture, least=least)
            height, width = pixels.shape[:2]
            assert width >= min(least[0], SIZE[0])
            assert height >= min(least[1], SIZE[1])
            assert width * SIZE[1] == height * SIZE[0], "the proportions changed"
            assert pixels[height // 2, width // 8, 0] > 200 > 60 > pixels[height // 2, width // 8, 2]
        assert loader.read(picture).shape == (SIZE[1], SIZE[0], 3), "the full picture stays the rule"

    def test_pickles(self, loader: ImageLoader, picture: str) -> None:
        """Workers get a pickled copy, before and after first use."""
        for _ in range(2):
            copy = pickle.loads(pickle.dumps(loader))
            np.testing.assert_array_equal(copy.read(picture), loader.read(picture))

    def test_works_in_a_spawned_worker(self, loader: ImageLoader, picture: str) -> None:
        """Nothing depends on the state of the parent process."""
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply(loader.read, (picture,)), loader.read(picture))

    def test_names_a_file_that_it_cannot_load(self, loader: ImageLoader, tmp_path: Path) -> None:
        """One clear error with the path."""
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"\xff\xd8\xff\xe0 this is not a picture")
        for path in (broken, tmp_path / "absent.jpg"):
            with pytest.raises(YoloError, match=path.name):
                loader.read(str(path))

    @pytest.mark.skipif(sys.platform == "win32", reason="counts open files through /dev/fd")
    def test_closes_its_files(self, loader: ImageLoader, picture: str) -> None:
        """A hundred pictures kept in memory hold no file open."""
        loader.read(picture)
        before = _open_files()
        kept = [loader(picture) for _ in range(100)]
        assert _open_files() <= before + 2, f"{len(kept)} pictures, {_open_files() - before} files left open"


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))
