"""What a cache is made with, and where it lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolo.core.errors import UsageError
from yolo.core.letterbox import letterbox
from yolo.data.cache.plan import Plan, shrink, stored_names
from yolo.data.cache.settings import CacheSettings, cache_folder, check_encryption, folder_name
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.loaders import DefaultImageLoader, EncryptedImageLoader


@pytest.mark.parametrize(
    ("size", "fraction", "name"),
    [
        ((640, 640), 1, ".yolo_cache_640x640_f1.0"),
        ((320, 192), 0.25, ".yolo_cache_320x192_f0.25"),
        (None, 0.1, ".yolo_cache_orig_f0.1"),
    ],
)
def test_the_folder_is_named_after_size_and_fraction(size: tuple[int, int] | None, fraction: float, name: str) -> None:
    assert folder_name(size, fraction) == name


def test_the_folder_lies_in_the_data_set_or_where_the_configuration_says(tmp_path: Path) -> None:
    config = DataConfig(root=str(tmp_path / "data"), image_size=(320, 192))
    assert cache_folder(config) == tmp_path / "data/.yolo_cache_320x192_f1.0"
    assert cache_folder(replace(config, root=str(tmp_path / "data/data.yaml"))).parent == tmp_path / "data"
    assert cache_folder(replace(config, cache_dir=str(tmp_path / "fast"))).parent == tmp_path / "fast"
    assert cache_folder(replace(config, cache_dir="caches")).parent == tmp_path / "data/caches"
    assert cache_folder(replace(config, cache_resize_images=False)).name == ".yolo_cache_orig_f1.0"


def test_settings_survive_json() -> None:
    for settings in (
        CacheSettings("coco", "jpeg", 95, (640, 480), 1.0, encrypted=True),
        CacheSettings("yolo", "raw", 95, None, 0.5, encrypted=False),
    ):
        assert CacheSettings.from_dict(settings.as_dict()) == settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset_format", None),
        ("picture_format", "png"),
        ("quality", "95"),
        ("quality", True),
        ("size", [640]),
        ("size", [640, -1]),
        ("size", "640x640"),
        ("fraction", "1"),
        ("encrypted", 1),
    ],
)
def test_foreign_settings_are_refused_and_named(key: str, value: object) -> None:
    good = CacheSettings("coco", "jpeg", 95, (640, 480), 1.0, encrypted=True).as_dict()
    with pytest.raises(ValueError, match=key):
        CacheSettings.from_dict(good | {key: value})


def test_an_encrypted_loader_needs_an_encrypted_cache() -> None:
    config = DataConfig(cache_images="disk")
    with pytest.raises(UsageError, match=r"data\.cache_encrypt"):
        check_encryption(config, EncryptedImageLoader())
    check_encryption(replace(config, cache_encrypt=True), EncryptedImageLoader())
    check_encryption(replace(config, cache_images="none"), EncryptedImageLoader())
    check_encryption(config, DefaultImageLoader())


def test_stored_names_are_relative_inside_the_data_set_only() -> None:
    names = stored_names(["/data/set/images/a.jpg", "/data/set2/b.jpg", "/elsewhere/c.jpg"], Path("/data/set"))
    assert names == ["images/a.jpg", "/data/set2/b.jpg", "/elsewhere/c.jpg"]


def test_a_plan_has_each_image_once(synthetic_data: Path) -> None:
    config = DataConfig(root=str(synthetic_data), format="yolo")
    train, val = load_labels(config, "train"), load_labels(config, "val")
    settings = CacheSettings.of(config)
    plan = Plan.of(settings, {"train": train, "val": val, "test": val}, synthetic_data)
    assert len(plan) == len(train) + len(val)
    assert [plan.sources[i] for i in plan.records["test"]] == list(val.paths)
    assert plan.names[0] == "images/train/train_00000.jpg"
    moved = Plan.of(settings, {"val": val, "train": train}, synthetic_data)
    others = [moved, *(Plan.of(other, {"train": train, "val": val}, synthetic_data) for other in _others(settings))]
    assert plan.as_bytes() not in {other.as_bytes() for other in others}


def _others(settings: CacheSettings) -> list[CacheSettings]:
    return [
        replace(settings, quality=94),
        replace(settings, picture_format="raw"),
        replace(settings, size=None),
        replace(settings, encrypted=True),
    ]


@pytest.mark.parametrize("target", [(64, 64), (96, 32), (32, 160)])
def test_the_letterbox_of_a_stored_picture_is_that_of_the_original(target: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    sides = [(1, 1), (1, 400), (400, 1), (31, 33), (64, 64), (65, 64), (63, 64), (96, 32), (200, 77), (77, 200)]
    for width, height in sides + rng.integers(1, 300, (60, 2)).tolist():
        picture = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        stored = shrink(picture, target)
        assert stored.flags.c_contiguous
        assert stored.shape[0] <= height
        assert stored.shape[1] <= width
        expected = letterbox(picture, target)
        found = letterbox(stored, target)
        np.testing.assert_array_equal(found[0], expected[0])
        assert (found[1].content, found[1].offset) == (expected[1].content, expected[1].offset)


def test_original_size_stores_the_picture_itself() -> None:
    picture = np.zeros((300, 200, 3), np.uint8)
    assert shrink(picture, None) is picture
