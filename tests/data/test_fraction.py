"""A share of a data set: proportional in every primary class, the same every time, no class lost."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo.core.errors import UsageError
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.fraction import primary_classes, take_fraction
from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings

Images = Sequence[Sequence[int]]
IMAGES = st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=60)


def table(images: Images, *, crowd: Sequence[bool] | None = None) -> LabelTable:
    """A table in which image i has boxes of the classes ``images[i]``."""
    labels = np.array([label for image in images for label in image], np.int64)
    return LabelTable(
        class_names=tuple(f"class{number}" for number in range(7)),
        category_ids=tuple(range(7)),
        paths=PackedStrings.pack(f"/data/{number}.jpg" for number in range(len(images))),
        sizes=np.full((len(images), 2), 100, np.int32),
        offsets=np.cumsum([0, *map(len, images)]).astype(np.int64),
        boxes=np.tile(np.array([[10, 10, 20, 20]], np.float32), (len(labels), 1)),
        labels=labels,
        crowd=np.zeros(len(labels), np.bool_) if crowd is None else np.array(crowd),
        area=np.full(len(labels), 100, np.float32),
        image_ids=np.arange(len(images), dtype=np.int64),
    )


def test_each_primary_class_gives_its_share() -> None:
    images = [[0, 1]] * 100 + [[1]] * 30 + [[2]] * 3 + [[]] * 20
    some = take_fraction(table(images), 0.1)
    assert Counter(primary_classes(some).tolist()) == {0: 10, 1: 3, 2: 1, -1: 2}
    assert list(some.image_ids) == sorted(some.image_ids), "the order of the data set is kept"
    assert some.path(0) == f"/data/{some.image_ids[0]}.jpg"


def test_the_choice_is_spread_and_not_the_first_ones() -> None:
    chosen = take_fraction(table([[0]] * 1000), 0.1).image_ids
    assert 300 < chosen.mean() < 700
    assert len(np.intersect1d(chosen, np.arange(100))) < 30


def test_everything_is_the_table_itself_and_nothing_is_refused() -> None:
    whole = table([[0], [1]])
    assert take_fraction(whole, 1.0) is whole
    for wrong in (0, -0.5, 1.5, float("nan")):
        with pytest.raises(UsageError, match="data_fraction"):
            take_fraction(whole, wrong)


def test_a_class_that_is_never_the_first_is_kept() -> None:
    images = [[0]] * 50 + [[0, 5]] + [[0]] * 49
    for seed in range(5):
        assert 5 in take_fraction(table(images), 0.02, seed=seed).labels


def test_crowd_regions_are_no_primary_class() -> None:
    images = [[3, 1], [3]]
    assert primary_classes(table(images, crowd=[True, False, True])).tolist() == [1, -1]


@given(IMAGES, st.floats(0.01, 1), st.integers(0, 3))
def test_no_class_is_lost_and_the_choice_is_the_same_again(images: Images, fraction: float, seed: int) -> None:
    whole = table(images)
    some = take_fraction(whole, fraction, seed=seed)
    assert set(some.labels.tolist()) == set(whole.labels.tolist())
    assert set(primary_classes(some).tolist()) == set(primary_classes(whole).tolist())
    assert some.image_ids.tolist() == take_fraction(whole, fraction, seed=seed).image_ids.tolist()


@given(IMAGES, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_smaller_share_is_a_part_of_a_larger_one(images: Images, one: float, other: float) -> None:
    single = table([image[:1] for image in images])
    less, more = (set(take_fraction(single, value).image_ids.tolist()) for value in sorted((one, other)))
    assert less <= more


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_train_and_val_are_shared_out_with_a_note(datasets: Path, split: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = load_labels(DataConfig(root=str(datasets / "bccd"), format="yolo"), split)
    with caplog.at_level(logging.INFO, "yolo.data"):
        some = load_labels(DataConfig(root=str(datasets / "bccd"), format="yolo", data_fraction=0.1, seed=7), split)
    notes = [record.message for record in caplog.records if "data_fraction" in record.message]
    if split == "test":
        assert len(some) == len(whole)
        assert notes == []
        return
    assert 0.08 < len(some) / len(whole) < 0.15
    assert notes == [
        f"data.data_fraction 0.1: {len(some)} of the {len(whole)} {split} images are used, some of every class"
    ]
    other_seed = DataConfig(root=str(datasets / "bccd"), format="yolo", data_fraction=0.1, seed=8)
    assert list(load_labels(other_seed, split).paths) == list(some.paths), "runs with other seeds see the same images"
