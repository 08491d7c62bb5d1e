"""D-ECE, detections per image and their fit, on detections made for it."""

from collections.abc import Callable

import numpy as np
import pytest

from yolo.training.metrics.analysis import Analysis


def with_scores(scene: Callable[..., Analysis], rights: list[float], wrongs: list[float], **options) -> Analysis:
    """One detection an image: true positives of some scores, false positives of others."""
    objects = [(i, 0, 0, 10, 10, 0) for i in range(len(rights))]
    found = [(i, 0, 0, 10, 10, 0, score) for i, score in enumerate(rights)]
    found += [(len(rights) + i, 0, 0, 10, 10, 0, score) for i, score in enumerate(wrongs)]
    return scene(objects, found, images=len(rights) + len(wrongs), **options)


def test_scores_that_say_the_truth_have_no_error(scene: Callable[..., Analysis]) -> None:
    calibration = with_scores(scene, [0.75] * 3 + [1.0] * 5, [0.75]).calibration
    assert calibration.error == pytest.approx(0.0)
    assert calibration.counts.sum() == 9


def test_the_error_is_the_distance_weighted_by_detections(scene: Callable[..., Analysis]) -> None:
    """Eight at 0.9 of which half are right, two at 0.3 of which none is: (8 * 0.4 + 2 * 0.3) / 10."""
    calibration = with_scores(scene, [0.9] * 4, [0.9] * 4 + [0.3] * 2, confidence=0.5).calibration
    assert calibration.error == pytest.approx(0.38)
    assert calibration.error_above == pytest.approx(0.4)
    assert calibration.confidence == 0.5
    filled = calibration.counts > 0
    assert calibration.edges[:-1][filled] == pytest.approx([0.25, 0.85])
    assert calibration.scores[filled] == pytest.approx([0.3, 0.9])
    assert calibration.precision[filled].tolist() == [0.0, 0.5]
    assert np.isnan(calibration.scores[~filled]).all()
    assert np.isnan(calibration.precision[~filled]).all()


@pytest.mark.parametrize("step", range(1, 21))
def test_an_edge_belongs_to_the_bin_below(step: int, scene: Callable[..., Analysis]) -> None:
    assert with_scores(scene, [step / 20], []).calibration.counts.argmax() == step - 1


def test_a_score_of_zero_is_in_the_first_bin(scene: Callable[..., Analysis]) -> None:
    assert with_scores(scene, [0.0], []).calibration.counts[0] == 1


def test_detections_in_a_crowd_are_left_out(scene: Callable[..., Analysis]) -> None:
    calibration = scene([(0, 0, 0, 99, 99, 0, True)], [(0, 0, 0, 10, 10, 0, 0.9)]).calibration
    assert calibration.counts.sum() == 0
    assert np.isnan(calibration.error)
    assert np.isnan(calibration.error_above)


def test_spread_counts_what_is_above_the_threshold_in_every_image(scene: Callable[..., Analysis]) -> None:
    """20 images: one with 40 detections, one with only a faint one, the others with none."""
    found = [(0, 50 + i, 0, 60 + i, 10, 0, 0.9) for i in range(39)] + [
        (0, 0, 0, 10, 8, 0, 0.9),
        (1, 0, 0, 9, 9, 0, 0.2),
    ]
    spread = scene([(0, 0, 0, 10, 10, 0)], found, images=20, confidence=0.25).spread
    assert spread.mean == 2.0
    assert spread.p95 == pytest.approx(np.percentile([40] + [0] * 19, 95))
    assert spread.mean_iou == pytest.approx(0.8)


def test_empty(scene: Callable[..., Analysis]) -> None:
    for analysis in (scene([], []), scene([], [], images=0), scene([(0, 0, 0, 10, 10, 0)], [])):
        assert np.isnan(analysis.calibration.error)
        assert analysis.spread.mean == analysis.spread.p95 == 0.0
        assert np.isnan(analysis.spread.mean_iou)
