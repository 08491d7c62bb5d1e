"""The data set that is drawn on first use."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from yolo.core.errors import UsageError, YoloError
from yolo.data import synthetic
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.shapes import SHAPES, draw_scene
from yolo.data.synthetic import ensure_synthetic, load_synthetic


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_everywhere_and_only_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_synthetic(tmp_path / "a", train=5, val=2, image_size=64)
    assert digest(first) == digest(ensure_synthetic(tmp_path / "b", train=5, val=2, image_size=64))
    monkeypatch.setattr(synthetic, "draw_scene", None)
    assert ensure_synthetic(tmp_path / "a", train=5, val=2, image_size=64) == first
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_default_folder_obeys_yolo_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_HOME", str(tmp_path))
    assert ensure_synthetic(train=1, val=1, image_size=32).is_relative_to(tmp_path)


def test_both_layouts_say_the_same(tmp_path: Path) -> None:
    root = ensure_synthetic(tmp_path / "s", train=8, val=3, image_size=96)
    for split, count in (("train", 8), ("val", 3)):
        coco, yolo = (load_labels(DataConfig(root=str(root), format=name), split) for name in ("coco", "yolo"))
        assert coco.class_names == yolo.class_names == SHAPES
        assert len(coco) == len(yolo) == count
        assert list(coco.paths) == list(yolo.paths)
        np.testing.assert_array_equal(coco.labels, yolo.labels)
        np.testing.assert_allclose(coco.boxes, yolo.boxes, atol=1e-3)
        np.testing.assert_array_equal(coco.sizes, 96)


def test_format_synthetic_needs_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(root: str | None = None) -> Path:
        return ensure_synthetic(root or tmp_path / "home", train=3, val=2, image_size=64)

    monkeypatch.setattr(synthetic, "ensure_synthetic", few)
    assert len(load_synthetic(DataConfig(), "train")) == 3
    assert len(load_synthetic(DataConfig(root=str(tmp_path / "mine")), "test")) == 2
    assert (tmp_path / "home").is_dir() and (tmp_path / "mine").is_dir()


def test_nothing_half_done_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(*args: object) -> object:
        calls.append(args)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return draw_scene(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(synthetic, "draw_scene", broken)
    with pytest.raises(YoloError, match="No space left"):
        ensure_synthetic(tmp_path / "s", train=5, val=2, image_size=64)
    assert not list(tmp_path.iterdir())


def test_somebody_else_was_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "s"

    def slow(rng: np.random.Generator, size: int) -> object:
        monkeypatch.setattr(synthetic, "draw_scene", draw_scene)
        ensure_synthetic(target, train=2, val=1, image_size=64)
        return draw_scene(rng, size)

    monkeypatch.setattr(synthetic, "draw_scene", slow)
    assert ensure_synthetic(target, train=2, val=1, image_size=64) == target
    assert list(tmp_path.iterdir()) == [target]


def test_other_contents_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(YoloError, match="something else"):
        ensure_synthetic(tmp_path)
    root = ensure_synthetic(tmp_path / "s", train=1, val=1, image_size=64)
    with pytest.raises(YoloError, match="something else"):
        ensure_synthetic(root, train=2, val=1, image_size=64)
    assert json.loads((root / "synthetic.json").read_text())["train"] == 1
    with pytest.raises(UsageError, match="1 image"):
        ensure_synthetic(tmp_path / "t", train=0)


def test_scenes_are_fair() -> None:
    """One to five shapes, every class, boxes within the picture and of the sizes that the text promises."""
    boxes, labels, counts = [], [], []
    for seed in range(150):
        image, targets = draw_scene(np.random.default_rng(seed), 160)
        assert image.shape == (160, 160, 3) and image.dtype == np.uint8
        assert (targets.boxes >= 0).all() and (targets.boxes <= 160).all()
        assert targets.boxes.dtype == np.float32 and targets.labels.dtype == np.int64
        boxes.append(targets.boxes)
        labels.append(targets.labels)
        counts.append(len(targets))
    sides = (np.concatenate(boxes)[:, 2:] - np.concatenate(boxes)[:, :2]).max(1) / 160
    assert min(counts) >= 1 and max(counts) == 5
    assert (np.bincount(np.concatenate(labels), minlength=4) > 60).all()
    assert sides.min() > 0.07 and sides.max() < 0.75 and 0.2 < np.median(sides) < 0.4
