"""Detections of two outputs, each with its counterpart."""

from __future__ import annotations

import numpy as np
import pytest

from yolo.export.matching import CONFIDENCE, match, thresholds


def output(*rows, classes=2):
    """Predictions of (cx, cy, w, h, class, score) as ``[4 + classes, A]``."""
    made = np.zeros((4 + classes, len(rows)), np.float32)
    for index, (*box, label, score) in enumerate(rows):
        made[:4, index], made[4 + label, index] = box, score
    return made


FIRST = (50, 50, 40, 40, 0, 0.9)
BESIDE = (51, 50, 40, 40, 0, 0.8)  # suppressed by the first
OTHER = (200, 80, 30, 60, 1, 0.7)


def compare(one, other, **settings):
    return match(one, other, **{"confidence": CONFIDENCE, "boxes": 0.5, "scores": 0.01} | settings)


def test_the_same_output_has_no_difference():
    matches = compare(output(FIRST, BESIDE, OTHER), output(FIRST, BESIDE, OTHER))
    assert (matches.wanted, matches.found) == (2, 2)
    assert matches.boxes.tolist() == matches.scores.tolist() == [0] * 4


def test_differences_are_those_of_the_detections():
    moved = output((50.25, 50, 40, 40, 0, 0.89), BESIDE, OTHER)
    matches = compare(output(FIRST, BESIDE, OTHER), moved)
    assert matches.boxes == pytest.approx([0.25, 0, 0.25, 0])
    assert matches.scores == pytest.approx([0.01, 0, 0.01, 0], abs=1e-6)


def test_either_of_two_equal_predictions_may_survive():
    """A hair decides which; both outputs are right."""
    ours = output((50, 50, 40, 40, 0, 0.900001), (58, 50, 40, 40, 0, 0.900000))
    theirs = output((50, 50, 40, 40, 0, 0.900000), (58, 50, 40, 40, 0, 0.900001))
    matches = compare(ours, theirs)
    assert (matches.wanted, matches.found) == (1, 1)
    assert matches.boxes.max() == 0 and matches.scores.max() < 1e-5


def test_another_prediction_may_have_found_the_object():
    """Coarse numbers let the neighbour win; what it says counts, not what the loser has become."""
    ours = output(FIRST, (52, 50, 40, 40, 0, 0.85))
    theirs = output((50, 50, 40, 40, 0, 0.5), (50.2, 50, 40, 40, 0, 0.895))
    matches = compare(ours, theirs)
    assert matches.boxes == pytest.approx([0.2, 0.2], abs=1e-5)
    assert matches.scores == pytest.approx([0.005, 0.005], abs=1e-5)


def test_an_object_that_is_not_found_is_a_difference():
    lost = output(FIRST, BESIDE, (200, 80, 30, 60, 1, 0.0))
    matches = compare(output(FIRST, BESIDE, OTHER), lost)
    assert (matches.wanted, matches.found) == (2, 1)
    assert matches.scores == pytest.approx([0, 0.7, 0])


def test_an_object_that_is_not_there_is_a_difference():
    matches = compare(output(FIRST, (200, 80, 30, 60, 1, 0.0)), output(FIRST, OTHER))
    assert (matches.wanted, matches.found) == (1, 2)
    assert matches.scores == pytest.approx([0, 0, 0.7])


def test_another_class_is_no_counterpart():
    matches = compare(output(FIRST), output((50, 50, 40, 40, 1, 0.9)))
    assert matches.scores == pytest.approx([0.9, 0.9])


def test_undefined_numbers_are_differences():
    broken = output(FIRST, OTHER)
    broken[0, 0] = np.nan
    assert compare(output(FIRST, OTHER), broken).boxes[0] == np.inf


def test_the_usual_confidence_where_there_is_enough_to_see():
    assert thresholds([output(FIRST, OTHER)], least=2) == [CONFIDENCE]


def test_the_best_predictions_of_each_picture_where_there_is_not():
    many = output(*((40 * index, 50, 20, 20, 0, 0.01 * (index + 1)) for index in range(12)))
    (bound,) = thresholds([many], least=5)
    assert 0.079 < bound < 0.08
    assert match(many, many, confidence=bound, boxes=1, scores=1).wanted == 5
    assert thresholds([np.zeros((6, 4), np.float32)], least=5) == [CONFIDENCE]
