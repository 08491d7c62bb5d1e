"""Training through the cache equals training without it."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolo.core.errors import UsageError, YoloError
from yolo.data.cache.errors import (
    DamagedCacheError,
    ImageNotInCacheError,
    MismatchError,
    MissingCacheError,
    WrongCacheKeyError,
)
from yolo.data.cache.loader import CachedImageLoader
from yolo.data.cache.readers import close_all
from yolo.data.cache.settings import cache_folder
from yolo.data.cache.use import fill_cache, open_images
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loader import build_loader
from yolo.data.loaders.base import ImageLoader, Pixels
from yolo.data.synthetic import ensure_synthetic
from yolo.data.types import Batch

KEY = "0123456789abcdef" * 4
S = 96


class Dark(ImageLoader):
    """A loader from elsewhere."""

    def __call__(self, path: str) -> Pixels:
        return np.full((150, 150, 3), 7, np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return ensure_synthetic(tmp_path / "shapes", train=13, val=6, image_size=150)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_ENCRYPTION_KEY", KEY)
    monkeypatch.setattr("yolo.data.workers._cores", lambda: 8)


def config(root: Path, **changes: Any) -> DataConfig:
    settings: dict[str, Any] = {"image_size": S, "batch_size": 4, "num_workers": 0, "seed": 5, "cache_images": "disk"}
    return DataConfig(root=str(root), **(settings | changes))


def tables(settings: DataConfig) -> dict[str, LabelTable]:
    return {split: load_labels(settings, split) for split in ("train", "val")}


def batches(settings: DataConfig, split: str, epoch: int = 0) -> list[Batch]:
    every = tables(settings)
    images = open_images(settings, every)
    assert isinstance(images, CachedImageLoader) == (settings.cache_images != "none")
    loader = build_loader(settings, every[split], images=images, training=split == "train", max_epochs=100)
    loader.batches.set_epoch(epoch)
    return list(loader)


def assert_same(first: list[Batch], second: list[Batch], *, images: bool = True) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        for name, value in vars(one).items():
            if images or name != "images":
                assert torch.equal(value, vars(other)[name]), name


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_raw_pictures_of_the_original_size_give_identical_batches(root: Path, workers: int, encrypted: bool) -> None:
    plain = config(root, cache_images="none", scaled_decode=False, degrees=5.0, mixup_prob=0.5)
    cached = replace(
        plain,
        cache_images="disk",
        cache_format="raw",
        cache_resize_images=False,
        num_workers=workers,
        cache_encrypt=encrypted,
    )
    assert fill_cache(cached, tables(cached))
    for split in ("train", "val"):
        assert_same(batches(plain, split, 2), batches(cached, split, 2))


def test_resized_raw_pictures_give_identical_validation_batches(root: Path) -> None:
    """The letterbox of a picture that was reduced by the letterbox's own rule is the letterbox of the picture."""
    plain, cached = config(root, cache_images="none"), config(root, cache_format="raw")
    fill_cache(cached, tables(cached))
    assert_same(batches(plain, "val"), batches(cached, "val"))


def test_jpeg_pictures_give_the_same_boxes_and_nearly_the_same_pixels(root: Path) -> None:
    plain, cached = config(root, cache_images="none"), config(root)
    fill_cache(cached, tables(cached))
    first, second = batches(plain, "val"), batches(cached, "val")
    assert_same(first, second, images=False)
    difference = torch.cat([one.images.int() - two.images.int() for one, two in zip(first, second, strict=True)])
    assert 0 < difference.abs().float().mean() < 4
    for one, two in zip(batches(plain, "train"), batches(cached, "train"), strict=True):
        assert torch.equal(one.labels, two.labels)
        torch.testing.assert_close(one.boxes, two.boxes)


@pytest.mark.parametrize(
    "changes", [{}, {"cache_format": "raw"}, {"cache_resize_images": False}, {"cache_encrypt": True}]
)
def test_within_a_cache_mode_the_batches_do_not_depend_on_workers(root: Path, changes: dict[str, Any]) -> None:
    settings = config(root, **changes)
    fill_cache(settings, tables(settings))
    alone = batches(settings, "train", 1)
    assert_same(alone, batches(replace(settings, num_workers=2), "train", 1))
    assert_same(alone, batches(replace(settings, cache_images="ram"), "train", 1))


def test_a_second_run_builds_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = config(root)
    assert fill_cache(settings, tables(settings))
    with caplog.at_level(logging.INFO, "yolo.data"):
        for again in (settings, replace(settings, cache_images="ram"), replace(settings, batch_size=2, num_workers=1)):
            assert not fill_cache(again, tables(again))
        train = {"train": load_labels(settings, "train")}
        assert not fill_cache(settings, train), "a cache with more splits than a run needs is good"
    assert "anew" not in caplog.text


def test_changes_build_it_anew_and_say_why(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = config(root)
    fill_cache(settings, tables(settings))
    raw = replace(settings, cache_format="raw")
    assert fill_cache(raw, tables(raw)) and "format changed (jpeg → raw)" in caplog.text
    encrypted = replace(raw, cache_encrypt=True)
    assert fill_cache(encrypted, tables(encrypted)) and "encryption changed (unencrypted → encrypted)" in caplog.text
    fewer = {"train": load_labels(encrypted, "train").select(np.arange(12)), "val": load_labels(encrypted, "val")}
    assert fill_cache(encrypted, fewer) and "image count changed (19 → 18)" in caplog.text


def test_a_split_that_comes_later_joins_those_that_are_there(root: Path) -> None:
    settings = config(root)
    every = tables(settings)
    assert fill_cache(settings, {"val": every["val"]})
    assert fill_cache(settings, {"train": every["train"]})
    assert not fill_cache(settings, every), "both are in it now"


def test_what_may_be_an_encrypted_cache_is_not_replaced_unasked(root: Path) -> None:
    settings = config(root, cache_encrypt=True)
    every = tables(settings)
    fill_cache(settings, every)
    file = cache_folder(settings) / "cache.lmdb/data.mdb"
    data = file.read_bytes()
    close_all()
    file.write_bytes(data.replace(b'"format": "yolo image', b'"forwat": "yolo image'))
    for changed in (settings, replace(settings, cache_encrypt=False)):
        with pytest.raises(DamagedCacheError, match="perhaps encrypted"):
            fill_cache(changed, every)
    assert fill_cache(replace(settings, cache_refresh=True), every)


@pytest.mark.parametrize("damage", [b"", b"no database", None])
def test_a_refresh_replaces_what_cannot_be_read(root: Path, damage: bytes | None) -> None:
    settings = config(root)
    every = tables(settings)
    fill_cache(settings, every)
    file = cache_folder(settings) / "cache.lmdb/data.mdb"
    data = file.read_bytes()
    close_all()
    file.write_bytes(data[:5000] if damage is None else damage)
    assert fill_cache(replace(settings, cache_refresh=True), every)
    assert not fill_cache(settings, every)


def test_a_refresh_of_one_split_keeps_the_others(root: Path) -> None:
    settings = config(root)
    every = tables(settings)
    fill_cache(settings, every)
    assert fill_cache(replace(settings, cache_refresh=True), {"val": every["val"]})
    assert not fill_cache(settings, every)


def test_pictures_of_another_loader_are_not_served(root: Path) -> None:
    settings = config(root, cache_format="raw")
    every = tables(settings)
    fill_cache(settings, every)
    mine = replace(settings, image_loader={"class_path": f"{__name__}.Dark"})
    assert fill_cache(mine, every)
    assert open_images(mine, every).read(every["train"].path(0)).max() == 7
    assert fill_cache(settings, every)
    assert not fill_cache(replace(settings, image_loader="fast"), every), "ours all give the same pictures"


def test_labels_that_cannot_be_replaced_in_the_cache_do_not_stop_a_training(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(root, format="yolo")
    fill_cache(settings, tables(settings))
    label = next(path for path in sorted((root / "labels/train").glob("*.txt")) if path.read_text())
    label.write_text("0 0.5 0.5 0.25 0.25\n")

    def fails(*_: object, **__: object) -> None:
        raise YoloError("the disk is full")

    monkeypatch.setattr("yolo.data.cache.use.refresh_labels", fails)
    assert not fill_cache(settings, tables(settings))
    assert "stay the old ones: the disk is full" in caplog.text


def test_a_cache_that_was_on_its_way_is_found(root: Path) -> None:
    settings = config(root)
    every = tables(settings)
    fill_cache(settings, every)
    close_all()
    folder = cache_folder(settings)
    folder.rename(folder.with_name(f"{folder.name}.old"))
    assert len(load_labels(replace(settings, cache_only=True), "train")) == len(every["train"])


def test_a_rewritten_image_is_not_served_stale(root: Path) -> None:
    settings = config(root, cache_format="raw")
    fill_cache(settings, tables(settings))
    table = load_labels(settings, "train")
    first, second = Path(table.path(0)), Path(table.path(1))
    if first.stat().st_size == second.stat().st_size:
        pytest.fail("the test wants files of different sizes")
    shutil.copy(second, first)
    assert fill_cache(settings, tables(settings))
    every = tables(settings)
    images = open_images(settings, every)
    np.testing.assert_array_equal(images.read(str(first)), images.read(str(second)))


def test_new_labels_reach_the_cache_without_new_pictures(root: Path) -> None:
    settings = config(root, format="yolo")
    fill_cache(settings, tables(settings))
    label = next(path for path in sorted((root / "labels/train").glob("*.txt")) if path.read_text())
    label.write_text("0 0.5 0.5 0.25 0.25\n")
    changed = tables(settings)
    assert not fill_cache(settings, changed)
    alone = replace(settings, cache_only=True)
    assert load_labels(alone, "train").fingerprint() == changed["train"].fingerprint()


def remove_originals(root: Path) -> None:
    for name in ("images", "labels", "annotations"):
        shutil.rmtree(root / name, ignore_errors=True)
    for path in root.glob("*.yaml"):
        path.unlink()


@pytest.mark.parametrize("dataset_format", ["coco", "yolo"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_the_cache_alone_is_enough(root: Path, dataset_format: str, encrypted: bool, tmp_path: Path) -> None:
    settings = config(root, format=dataset_format, cache_encrypt=encrypted)
    every = tables(settings)
    fill_cache(settings, every)
    wanted = {split: batches(settings, split) for split in every}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = cache_folder(settings)
    shutil.copytree(folder, elsewhere / folder.name)
    remove_originals(root)
    shutil.rmtree(folder)
    alone = replace(settings, root=str(elsewhere), cache_only=True)
    got = tables(alone)
    for split, table in every.items():
        assert got[split].fingerprint() == table.fingerprint()
        truth, before = got[split].coco_ground_truth(), table.coco_ground_truth()
        for entry in (*truth["images"], *before["images"]):
            entry.pop("file_name")
        assert truth == before, "the evaluator sees the same"
        assert not set(got["train"].paths) & set(got["val"].paths)
        assert_same(wanted[split], batches(alone, split))
    assert not fill_cache(alone, got)
    with pytest.raises(UsageError, match="holds no test images, only train, val"):
        load_labels(alone, "test")


def test_a_list_file_chooses_among_the_images_of_the_cache(root: Path) -> None:
    settings = config(root, format="yolo", cache_only=False)
    every = tables(settings)
    fill_cache(settings, every)
    names = [Path(every["val"].path(2)).name, f"train/{Path(every['train'].path(4)).name}"]
    (root / "mine.txt").write_text("\n".join(names))
    alone = replace(settings, cache_only=True, train_split="mine.txt", val_split="not-there.txt")
    chosen = load_labels(alone, "train")
    assert [Path(path).name for path in chosen.paths] == [Path(name).name for name in names]
    assert load_labels(alone, "val").fingerprint() == every["val"].fingerprint()
    (root / "mine.txt").write_text("nothing.jpg\n")
    with pytest.raises(YoloError, match=r"mine.txt line 1: 'nothing.jpg' is not in the cache"):
        load_labels(alone, "train")


def test_mistakes_are_told_in_boxes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(root, cache_encrypt=True)
    every = tables(settings)
    fill_cache(settings, every)
    plain = replace(settings, cache_encrypt=False)
    for use in (lambda: fill_cache(plain, every), lambda: load_labels(replace(plain, cache_only=True), "val")):
        with pytest.raises(MismatchError, match=r"ENCRYPTION MISMATCH(.|\n)*cache_encrypt: false"):
            use()
    alone = replace(settings, cache_only=True, format="yolo")
    with pytest.raises(MismatchError, match=r"FORMAT MISMATCH(.|\n)*format: yolo(.|\n)*coco"):
        load_labels(alone, "val")
    with pytest.raises(MismatchError, match="FORMAT MISMATCH"):
        fill_cache(replace(alone, cache_only=False), every)
    monkeypatch.setenv("YOLO_ENCRYPTION_KEY", "f" * 64)
    with pytest.raises(WrongCacheKeyError, match="WRONG KEY"):
        load_labels(replace(settings, cache_only=True), "val")
    with pytest.raises(WrongCacheKeyError, match="WRONG KEY"):
        fill_cache(settings, every)
    monkeypatch.setenv("YOLO_ENCRYPTION_KEY", "abc")
    with pytest.raises(UsageError, match="64 hexadecimal characters"):
        fill_cache(settings, every)


def test_a_missing_cache_names_the_ones_that_are_there(root: Path) -> None:
    alone = config(root, cache_only=True)
    with pytest.raises(MissingCacheError, match="make it with `yolo cache-create`"):
        load_labels(alone, "train")
    fill_cache(config(root), tables(config(root)))
    with pytest.raises(MissingCacheError, match=r"\.yolo_cache_96x96_f1\.0: set data\.image_size"):
        load_labels(replace(alone, image_size=128), "train")


def test_an_image_that_is_not_in_the_cache(root: Path) -> None:
    settings = config(root)
    val = {"val": load_labels(settings, "val")}
    fill_cache(settings, val)
    stranger = load_labels(settings, "train").path(0)
    assert open_images(settings, val).read(stranger).shape, "read from its file"
    with pytest.raises(ImageNotInCacheError, match="IMAGE NOT FOUND IN CACHE"):
        open_images(replace(settings, cache_only=True), val).read(stranger)


def test_a_memory_limit_is_checked_before_work_starts(root: Path) -> None:
    settings = config(root, cache_images="ram", cache_max_memory_gb=1e-6)
    with pytest.raises(YoloError, match="cache_max_memory_gb"):
        fill_cache(settings, tables(settings))
    assert not cache_folder(settings).exists()


def test_settings_that_make_no_sense() -> None:
    for changes, text in (
        ({"cache_images": "disc"}, "data.cache_images is 'disc': choose one of none, ram, disk"),
        ({"cache_format": "png"}, "choose one of jpeg, raw"),
        ({"jpeg_quality": 0}, "data.jpeg_quality"),
        ({"cache_workers": 0}, "data.cache_workers"),
        ({"cache_only": True, "cache_images": "none"}, "data.cache_only needs data.cache_images"),
        ({"cache_only": True, "cache_refresh": True}, "leave out data.cache_only"),
    ):
        with pytest.raises(UsageError) as error:
            config(Path("x"), **changes)
        assert text in str(error.value)
