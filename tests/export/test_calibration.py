"""Which pictures an export calibrates with and compares on."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from yolo.core.errors import UsageError, YoloError
from yolo.core.images import read_image
from yolo.core.letterbox import letterbox
from yolo.export.calibration import PARITY_IMAGES, choose_images, parity_samples, spread


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for index in range(40):
        path = made / ("a" if index % 2 else "b") / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), generator.integers(0, 255, (30 + index, 50, 3), np.uint8))
    (made / "notes.txt").write_text("not a picture")
    return made


def names(images):
    return [path.rsplit("/", 1)[-1] for path in images.paths]


def test_a_draw_from_a_folder_is_random_and_repeatable(folder):
    first = choose_images(folder, count=10)
    assert names(first) == names(choose_images(folder, count=10))
    assert names(first) != names(choose_images(folder, count=10, seed=1))
    assert names(first) != sorted(names(first))[:10]
    assert len(set(names(first))) == 10
    assert {path.split("/")[-2] for path in first.paths} == {"a", "b"}
    assert set(names(first)) != {f"{index:02d}.png" for index in range(10)}, "never simply the first ones"


def test_a_smaller_draw_is_the_beginning_of_a_larger_one(folder):
    assert choose_images(folder, count=40).paths[:7] == choose_images(folder, count=7).paths


def test_there_may_be_fewer_than_asked_for(folder):
    images = choose_images(folder, count=1000, seed=3)
    assert images.to_dict() == {"source": folder.name, "images": 40, "available": 40, "seed": 3}


def test_pictures_are_letterboxed_as_everywhere(folder):
    images = choose_images(folder, count=3)
    canvases = list(images.canvases((64, 96)))
    assert [(canvas.shape, canvas.dtype) for canvas in canvases] == [((96, 64, 3), np.uint8)] * 3
    for path, canvas in zip(images.paths, canvases, strict=True):
        assert np.array_equal(canvas, letterbox(read_image(path), (64, 96))[0])
    for path, sample in zip(images.others, images.samples((64, 96), 3), strict=False):
        assert sample.image.dtype == np.float32 and sample.image.shape == (3, 96, 64)
        canvas = letterbox(read_image(path), (64, 96))[0]
        assert np.array_equal(np.round(sample.image * 255).astype(np.uint8), canvas.transpose(2, 0, 1))


def test_a_file_is_judged_on_pictures_that_it_was_not_calibrated_with(folder, synthetic_data):
    for source in (folder, synthetic_data / "data.yaml"):
        images = choose_images(source, count=4)
        assert len(images) == 4 and len(images.others) == PARITY_IMAGES
        assert not set(images.paths) & set(images.others)
        samples = images.samples((32, 32), PARITY_IMAGES)
        assert [sample.name for sample in samples] == [path.rsplit("/", 1)[-1] for path in images.others]
    few = choose_images(folder, count=38)
    assert [sample.name for sample in few.samples((32, 32), 4)] == [
        path.rsplit("/", 1)[-1] for path in (*few.others, *few.paths)
    ][:4]
    assert len(few.others) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "does not exist"),
        ("empty", "no pictures in this folder"),
        ("file.txt", "neither a folder nor a .yaml"),
    ],
)
def test_no_pictures_is_one_line(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(UsageError, match=rf"--calibration-images .*{name}.*{message}") as caught:
        choose_images(tmp_path / name, count=1)
    assert "\n" not in str(caught.value)


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    with pytest.raises(YoloError, match=r"broken\.jpg"):
        list(choose_images(tmp_path, count=1).canvases((32, 32)))


def test_every_class_gets_its_turn():
    classes = [{0}] * 96 + [{1}, {1}, {0, 2}, set()]
    chosen = spread(classes, count=8, seed=0)
    assert len(set(chosen)) == 8
    assert {96, 97, 98, 99} <= set(chosen)
    assert spread(classes, count=8, seed=0) == chosen != spread(classes, count=8, seed=1)
    assert sorted(spread(classes, count=500, seed=0)) == list(range(100))


def test_classes_are_balanced_as_far_as_they_go():
    classes = [{index % 4} for index in range(10)] + [{0}] * 90
    counts = np.bincount([next(iter(classes[index])) for index in spread(classes, count=8, seed=0)])
    assert counts.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("kind", ["data.yaml", "run.yaml"])
def test_a_data_set_is_read_by_its_configuration(synthetic_data, tmp_path, kind):
    if kind == "run.yaml":
        path = tmp_path / kind
        path.write_text(f"data: {{root: {synthetic_data}, format: coco}}\n")
    else:
        path = synthetic_data / kind
    images = choose_images(path, count=6)
    assert (len(images), images.available) == (6, 16)
    assert next(images.canvases((32, 32))).shape == (32, 32, 3)
    assert all("train" in path for path in images.paths)


def test_names_of_encrypted_pictures_are_told_nobody(synthetic_data, tmp_path, monkeypatch):
    from yolo.data.loaders import DefaultImageLoader

    path = tmp_path / "run.yaml"
    path.write_text(f"data: {{root: {synthetic_data}, format: coco}}\n")
    assert choose_images(path, count=1).samples((32, 32), 1)[0].name.endswith((".jpg", ".png"))
    monkeypatch.setattr(DefaultImageLoader, "confidential", True)
    images = choose_images(path, count=3)
    assert [sample.name for sample in images.samples((32, 32), 2)] == ["picture 1", "picture 2"]


def test_without_yolo_data_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "run.yaml").write_text("data: {}")
    for name in ("yolo.data", "yolo.data.config"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"pip install 'yolo-export\[data\]'"):
        choose_images(tmp_path / "run.yaml", count=1)


def test_the_comparison_takes_the_nearest_to_real_use(folder, synthetic_data, tmp_path):
    images = choose_images(folder, count=20)
    data = {"root": str(synthetic_data), "format": "coco"}
    samples, source = parity_samples((32, 32), calibration=images, settings=data)
    assert [sample.name for sample in samples] == [path.rsplit("/", 1)[-1] for path in images.others]
    assert folder.name in source
    samples, source = parity_samples((32, 32), settings=data)
    assert len(samples) == 8 and "data set" in source
    for gone in ({"root": str(tmp_path / "gone")}, {"root": str(tmp_path)}, {"no such key": 1}, None):
        samples, source = parity_samples((32, 32), settings=gone)
        assert len(samples) == 6 and "yolo-export" in source


def test_a_damaged_picture_of_the_data_set_is_no_reason_to_stop(synthetic_data, tmp_path, monkeypatch):
    import shutil

    root = shutil.copytree(synthetic_data, tmp_path / "data")
    settings = {"root": str(root), "format": "coco"}
    assert "data set" in parity_samples((32, 32), settings=settings)[1]

    from yolo.export import images

    def refuse(path):
        raise YoloError("damaged")

    damaged = images.DatasetImages(paths=["a"], classes=[frozenset()], read=refuse, confidential=False)
    monkeypatch.setattr(images, "_read", lambda *_: damaged)
    assert "yolo-export" in parity_samples((32, 32), settings=settings)[1]
