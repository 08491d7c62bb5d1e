"""Curves count what a threshold would have left, and their AP is COCO's."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.coco import coco_numbers
from yolo.training.metrics.curves import mean_ap


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_is_that_of_coco_at_50(seed: int, random_scene: Callable[..., Analysis]) -> None:
    analysis = random_scene(seed, classes=4)
    result = coco_numbers(analysis.detections, analysis.truth, analysis.pairs)
    curves = analysis.curves.precision_at_recall
    assert curves.mean(axis=1) == pytest.approx(result.per_class[:, 1], abs=1e-9, nan_ok=True)
    assert mean_ap(curves) == pytest.approx(result.stats.AP50, abs=1e-9)
    assert analysis.errors.ap == pytest.approx(result.stats.AP50, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_thresholding_first(random_scene: Callable[..., Analysis], seed: int, step: int) -> None:
    """A detection counts when its score is above the confidence, also where the scores are on the steps."""
    analysis = random_scene(seed, images=3, confidence=step / 1000)
    counts = analysis.curves.counts(step)
    assert counts.true_positives.tolist() == analysis.counts.true_positives.tolist()
    assert counts.false_positives.tolist() == analysis.counts.false_positives.tolist()
    assert counts.truths.tolist() == analysis.counts.truths.tolist()
    assert analysis.curves.sweep([step / 1000])[0] == pytest.approx(counts.means())
    mean = [float(analysis.curves.mean(values)[step]) for values in (analysis.curves.recall, analysis.curves.f1)]
    assert mean == pytest.approx(counts.means()[1:])


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_best_f1_is_nowhere_exceeded(random_scene: Callable[..., Analysis], seed: int) -> None:
    curves = random_scene(seed).curves
    best, confidence = curves.best_f1()
    assert all(curves.counts(step).means()[2] <= best + 1e-12 for step in range(0, 1001, 7))
    assert curves.sweep([confidence])[0, 2] == pytest.approx(best)
    own, where = curves.best_f1_per_class()
    assert (own[:, None] >= curves.f1).all()
    assert own[curves.truths > 0].mean() >= best - 1e-12 if (curves.truths > 0).any() else best == 0
    assert ((where >= 0) & (where <= 1)).all()


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_fewer_are_found_at_higher_confidence(random_scene: Callable[..., Analysis], seed: int) -> None:
    curves = random_scene(seed).curves
    assert (np.diff(curves.true_positives, axis=1) <= 0).all()
    assert (np.diff(curves.false_positives, axis=1) <= 0).all()
    assert (np.diff(curves.precision_at_recall[curves.truths > 0], axis=1) <= 0).all()
    for values in (curves.precision, curves.recall, curves.f1):
        assert ((values >= 0) & (values <= 1)).all()


def test_precision_stays_where_nothing_is_found_any_more(scene: Callable[..., Analysis]) -> None:
    curves = scene([(0, 0, 0, 10, 10, 0)], [(0, 0, 0, 10, 10, 0, 0.6), (0, 50, 50, 60, 60, 0, 0.3)]).curves
    assert curves.precision[0, [0, 299, 300, 599, 600, 1000]].tolist() == [0.5, 0.5, 1, 1, 1, 1]
    assert curves.recall[0, [0, 599, 600]].tolist() == [1, 1, 0]
    assert curves.best_f1() == (1.0, 0.3)
    assert curves.precision[1].tolist() == [0.0] * 1001  # a class that is never found


def test_only_classes_with_truth_are_averaged(scene: Callable[..., Analysis]) -> None:
    curves = scene([(0, 0, 0, 10, 10, 1)], [(0, 0, 0, 10, 10, 1, 0.6), (0, 30, 0, 40, 10, 0, 0.9)], classes=80).curves
    assert np.isnan(curves.precision_at_recall[0]).all()
    assert mean_ap(curves.precision_at_recall) == 1.0
    assert curves.best_f1() == (1.0, 0.0)
    assert curves.sweep([0.25])[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("found", [[], [(0, 0, 0, 10, 10, 0, 0.6)]])
def test_without_truth_everything_is_zero_and_nothing_fails(found: list, scene: Callable[..., Analysis]) -> None:
    curves = scene([], found).curves
    assert curves.best_f1() == (0.0, 0.0)
    assert curves.sweep([0.1, 0.5]).tolist() == [[0, 0, 0]] * 2
    assert mean_ap(curves.precision_at_recall) == 0.0
    assert curves.sweep([]).shape == (0, 3)
