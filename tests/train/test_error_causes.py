"""Errors by cause, on detections whose causes are known."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.tide import CAUSES

A, B, C = (0, 0, 0, 10, 10), (0, 20, 0, 30, 10), (0, 40, 0, 50, 10)
A_LOOSE = (0, 0, 0, 10, 25)  # IoU 0.4 with A
A_TOUCHED = (0, 0, 9, 10, 20)  # IoU 0.05 with A
NOWHERE = (0, 80, 80, 90, 90)


def causes(analysis: Analysis) -> list[str]:
    return [CAUSES[i] if i >= 0 else "none" for i in analysis.errors.cause.tolist()]


ALONE = {
    "classification": ([(*A, 0), (*B, 1)], [(*A, 1, 0.9), (*B, 1, 0.8)]),
    "localisation": ([(*A, 0), (*B, 1)], [(*A_LOOSE, 0, 0.9), (*B, 1, 0.8)]),
    "both": ([(*A, 0), (*B, 1)], [(*A_LOOSE, 1, 0.9), (*A, 0, 0.8), (*B, 1, 0.7)]),
    # class 0 has a second object: without it, a duplicate after the last object costs nothing
    "duplicate": ([(*A, 0), (*B, 0)], [(*A, 0, 0.9), (*A, 0, 0.8), (*B, 0, 0.7)]),
    "background": ([(*A, 0)], [(*NOWHERE, 0, 0.9), (*A, 0, 0.8)]),
    "missed": ([(*A, 0), (*B, 0), (*C, 1)], [(*A, 0, 0.9)]),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_alone_and_mending_it_makes_everything_right(cause: str, scene: Callable[..., Analysis]) -> None:
    analysis = scene(*ALONE[cause])
    errors = analysis.errors
    assert {name: count for name, count in errors.counts.items() if count} == {cause: 2 if cause == "missed" else 1}
    assert errors.ap < 1
    assert errors.ap + errors.gains[cause] == pytest.approx(1.0)
    assert all(abs(gain) < 1e-12 for name, gain in errors.gains.items() if name != cause)
    wrong = 0 if cause == "missed" else 1
    assert sorted(causes(analysis)) == sorted([cause] * wrong + ["none"] * (len(ALONE[cause][1]) - wrong))


def test_what_a_detection_is_about(scene: Callable[..., Analysis]) -> None:
    found = [(*A_LOOSE, 0, 0.9), (*B, 2, 0.8), (*NOWHERE, 0, 0.7), (*C, 2, 0.6), (*C, 2, 0.5)]
    errors = scene([(*A, 0), (*B, 1), (*C, 2), (0, 60, 60, 70, 70, 1)], found).errors
    assert errors.object.tolist() == [0, 1, -1, -1, 2]
    assert errors.missed.tolist() == [False, False, False, True]
    assert errors.unfound == {"classification": 1, "localisation": 1, "missed": 1}


def test_where_two_causes_fit(scene: Callable[..., Analysis]) -> None:
    """Localisation goes before classification, that before duplicate, that before both."""
    wide, narrow = (0, 0, 0, 10, 25), (0, 0, 0, 10, 10)
    # 0.4 with an object of its class, 1.0 with one of another
    assert causes(scene([(*narrow, 0), (*wide, 1)], [(*wide, 0, 0.9)])) == ["localisation"]
    # on an object that is taken, and on one of another class
    again = causes(scene([(*A, 0), (*A, 1)], [(*A, 0, 0.9), (*A, 0, 0.8)]))
    assert again == ["none", "classification"]
    # on an object that is taken, near one of another class
    again = causes(scene([(*A, 0), (*A_LOOSE, 1)], [(*A, 0, 0.9), (*A, 0, 0.8)]))
    assert again == ["none", "duplicate"]


def test_the_limits_are_those_of_the_paper(scene: Callable[..., Analysis]) -> None:
    touched = scene([(*A, 0)], [(*A_TOUCHED, 0, 0.9), (*A_TOUCHED, 1, 0.9)])
    assert causes(touched) == ["background", "background"]
    half = scene([(*A, 0)], [(0, 0, 0, 10, 20, 0, 0.9), (0, 0, 0, 10, 20, 1, 0.9)])  # IoU 0.5
    assert causes(half) == ["none", "classification"]


def test_only_the_best_of_those_that_nearly_found_an_object_is_mended(scene: Callable[..., Analysis]) -> None:
    found = [(*A_LOOSE, 0, 0.9), (*A_LOOSE, 0, 0.8), (*A, 1, 0.7)]
    errors = scene([(*A, 0)], found, classes=2).errors
    assert errors.counts["localisation"] == 2
    assert errors.counts["classification"] == 1
    assert errors.counts["missed"] == 0
    assert errors.gains["localisation"] == pytest.approx(1.0)
    assert errors.gains["classification"] == 0.0  # the first of the three would take the object
    assert errors.unfound == {"classification": 0, "localisation": 1, "missed": 0}


def test_a_wrong_class_is_no_gain_where_the_object_is_found_anyway(scene: Callable[..., Analysis]) -> None:
    errors = scene([(*A, 0), (*B, 1)], [(*A, 0, 0.9), (*A, 1, 0.8), (*B, 1, 0.7)]).errors
    assert errors.counts["classification"] == 1
    assert errors.ap + errors.gains["classification"] == pytest.approx(1.0)  # it is removed
    assert errors.unfound == {"classification": 0, "localisation": 0, "missed": 0}


def test_a_detection_in_a_crowd_is_no_error_and_a_crowd_is_never_missed(scene: Callable[..., Analysis]) -> None:
    crowd = (0, 0, 0, 100, 10, 0, True)
    analysis = scene([crowd], [(*A, 0, 0.9), (*B, 1, 0.8)])
    assert causes(analysis) == ["none", "background"]
    assert not analysis.errors.missed.any()
    assert sum(analysis.errors.counts.values()) == 1


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_properties(random_scene: Callable[..., Analysis], seed: int) -> None:
    analysis = random_scene(seed)
    errors, matches, truth = analysis.errors, analysis.matches, analysis.truth
    assert ((errors.cause >= 0) == matches.wrong).all()
    assert sum(errors.counts[cause] for cause in CAUSES[:-1]) == matches.wrong.sum()
    assert sum(errors.unfound.values()) == (~truth.crowd & (matches.detection < 0)).sum()
    assert errors.counts["missed"] == errors.missed.sum() == errors.unfound["missed"]
    about = np.isin(errors.cause, [CAUSES.index(name) for name in ("background",)])
    assert (errors.object[about] == -1).all()
    for name in (*CAUSES[:-1],):
        assert errors.gains[name] >= -1e-12
    assert all(errors.ap + gain <= 1 + 1e-12 for gain in errors.gains.values())
    assert (
        errors.gain_without_false_positives >= max(errors.gains[n] for n in ("both", "duplicate", "background")) - 1e-12
    )


def test_empty(scene: Callable[..., Analysis]) -> None:
    for analysis in (scene([], []), scene([], [], images=0)):
        assert analysis.errors.ap == 0.0
        assert not any(analysis.errors.counts.values())
        assert not any(analysis.errors.gains.values())
    only_false = scene([], [(*A, 0, 0.9)]).errors
    assert only_false.counts["background"] == 1
    assert only_false.ap == only_false.gain_without_false_positives == 0.0
    only_missed = scene([(*A, 0)], []).errors
    assert only_missed.counts["missed"] == 1
    assert only_missed.gains["missed"] == only_missed.gain_without_misses == 1.0
