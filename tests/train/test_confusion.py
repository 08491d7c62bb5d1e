"""The confusion matrix agrees with precision and recall, and shows what a user sees."""

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo.training.metrics.analysis import Analysis

A, B, C = (0, 0, 0, 10, 10), (0, 20, 0, 30, 10), (0, 40, 0, 50, 10)
NOWHERE = (0, 80, 80, 90, 90)


def test_each_kind_is_in_its_cell(scene: Callable[..., Analysis]) -> None:
    found = [(*A, 0, 0.9), (*B, 2, 0.8), (*NOWHERE, 1, 0.7), (*A, 0, 0.6)]
    confusion = scene([(*A, 0), (*B, 1), (*C, 2)], found).confusion
    assert confusion.matrix.tolist() == [
        [1, 0, 0, 1],  # found, and once more
        [0, 0, 0, 1],  # nothing is there
        [0, 1, 0, 0],  # class 1 taken for class 2
        [0, 0, 1, 0],  # missed
    ]
    assert confusion.top(5) == [("class 2", "class 1", 1)]


def test_only_what_is_above_the_production_threshold_counts(scene: Callable[..., Analysis]) -> None:
    """The mistake of before: a matrix of all detections above 0.001."""
    tail = [(0, 100 + x, 0, 110 + x, 10, 1, 0.002) for x in range(0, 500, 10)]
    found = [(*A, 0, 0.9), (*B, 1, 0.25), *tail]
    confusion = scene([(*A, 0), (*B, 1)], found, confidence=0.25).confusion
    assert confusion.confidence == 0.25
    assert confusion.matrix.sum() == 2  # 0.25 is not above 0.25: one found, one missed
    assert confusion.matrix[0, 0] == 1
    assert confusion.matrix[3, 1] == 1


def test_a_faint_match_frees_its_object_for_a_confusion(scene: Callable[..., Analysis]) -> None:
    """Object of class 0, found below the threshold; above it, the box is called class 1."""
    confusion = scene([(*A, 0)], [(*A, 0, 0.1), (*A, 1, 0.9)], confidence=0.25).confusion
    assert confusion.matrix[1, 0] == 1
    assert confusion.matrix.sum() == 1


def test_the_right_class_goes_before_a_better_box_of_another(scene: Callable[..., Analysis]) -> None:
    confusion = scene([(*A, 0)], [(*A, 1, 0.9), (0, 0, 0, 10, 7, 0, 0.3)]).confusion
    assert confusion.matrix[0, 0] == 1
    assert confusion.matrix[1, 3] == 1


def test_crowds_are_in_no_cell(scene: Callable[..., Analysis]) -> None:
    confusion = scene([(0, 0, 0, 100, 10, 0, True)], [(*A, 0, 0.9), (*B, 0, 0.9)]).confusion
    assert confusion.matrix.sum() == 0


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.25, 0.5, 0.9]))
@settings(max_examples=60, deadline=None)
def test_sums(random_scene: Callable[..., Analysis], seed: int, confidence: float) -> None:
    analysis = random_scene(seed, confidence=confidence)
    matrix, counts = analysis.confusion.matrix, analysis.counts
    assert np.diag(matrix)[:-1].tolist() == counts.true_positives.tolist()
    assert matrix[-1, -1] == 0
    assert matrix[:, :-1].sum(axis=0).tolist() == analysis.truth.per_class.tolist()
    assert matrix[:-1].sum(axis=1).tolist() == (counts.true_positives + counts.false_positives).tolist()


def test_the_most_frequent_confusions_come_first(scene: Callable[..., Analysis]) -> None:
    objects = [(i, *A[1:], 0) for i in range(3)] + [(3, *A[1:], 1)]
    found = [(i, *A[1:], 2, 0.5) for i in range(4)]
    confusion = scene(objects, found, images=4).confusion
    assert confusion.top(9) == [("class 2", "class 0", 3), ("class 2", "class 1", 1)]
    assert confusion.top(1) == [("class 2", "class 0", 3)]
    assert confusion.top(0) == []


def test_empty(scene: Callable[..., Analysis]) -> None:
    for analysis in (scene([], []), scene([], [], images=0)):
        assert analysis.confusion.matrix.tolist() == np.zeros((4, 4), int).tolist()
        assert analysis.confusion.top(3) == []
