"""All detections propose at once, and the outcome is that of a plain loop."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo.training.metrics import matching
from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.matching import Pairs, assign, match, overlapping_pairs


def overlap(box: np.ndarray, true: np.ndarray, crowd: bool) -> float:
    width = min(box[2], true[2]) - max(box[0], true[0])
    height = min(box[3], true[3]) - max(box[1], true[1])
    inside = max(width, 0) * max(height, 0)
    area, true_area = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, true))
    return inside / (area if crowd else area + true_area - inside)


def plain_pairs(analysis: Analysis, least: float) -> list[tuple[int, int, float]]:
    found, truth = analysis.detections, analysis.truth
    rows = []
    for d in range(len(found)):
        for t in range(len(truth)):
            if found.image[d] == truth.image[t]:
                value = overlap(found.boxes[d], truth.boxes[t], truth.crowd[t])
                if value >= least:
                    rows.append((d, t, value))
    return rows


def plain_match(analysis: Analysis, iou: float) -> tuple[list[int], list[bool]]:
    """COCO's rule, one detection after the other."""
    found, truth = analysis.detections, analysis.truth
    object_of, ignored, taken = [-1] * len(found), [False] * len(found), set()
    for d in sorted(range(len(found)), key=lambda i: -found.scores[i]):
        best = iou
        for t in range(len(truth)):
            if found.image[d] != truth.image[t] or found.labels[d] != truth.labels[t]:
                continue
            value = overlap(found.boxes[d], truth.boxes[t], truth.crowd[t])
            if truth.crowd[t]:
                ignored[d] |= value >= iou
            elif t not in taken and value >= best:
                best, object_of[d] = value, t
        if object_of[d] >= 0:
            taken.add(object_of[d])
            ignored[d] = False
    return object_of, ignored


@pytest.mark.parametrize("seed", range(30))
def test_the_pairs_are_those_of_two_loops(seed: int, random_scene: Callable[..., Analysis], monkeypatch) -> None:
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", 7)  # many blocks
    analysis = random_scene(seed)
    pairs = overlapping_pairs(analysis.detections, analysis.truth)
    assert list(zip(*(a.tolist() for a in (pairs.detection, pairs.truth, pairs.overlap)), strict=True)) == plain_pairs(
        analysis, matching.FAINT_OVERLAP
    )


@pytest.mark.parametrize("iou", [0.5, 0.75])
@pytest.mark.parametrize("seed", range(60))
def test_matches_are_those_of_a_loop(seed: int, iou: float, random_scene: Callable[..., Analysis]) -> None:
    analysis = random_scene(seed)
    matches = match(analysis.detections, analysis.truth, analysis.pairs, iou=iou)
    wanted, ignored = plain_match(analysis, iou)
    assert matches.truth.tolist() == wanted
    assert matches.ignored.tolist() == ignored
    assert analysis.matches.correct.any()  # the case says something
    for detection, found in enumerate(wanted):
        if found >= 0:
            assert matches.detection[found] == detection
    assert (matches.detection >= 0).sum() == matches.correct.sum()


def test_ties_are_as_in_pycocotools(scene: Callable[..., Analysis]) -> None:
    """The first of equal scores, and the last of equal overlaps."""
    one = (0, 0, 0, 10, 10, 0)
    analysis = scene([one, one], [(0, 0, 0, 10, 10, 0, 0.5)] * 3)
    assert analysis.matches.truth.tolist() == [1, 0, -1]


def test_a_crowd_takes_any_number_and_never_hides_an_object(scene: Callable[..., Analysis]) -> None:
    inside = [(0, x, 0, x + 10, 10, 0, 0.9 - x / 100) for x in (0, 10, 20)]
    analysis = scene([(0, 0, 0, 100, 10, 0, True), (0, 10, 0, 20, 10, 0)], [*inside, (0, 0, 0, 10, 10, 1, 0.8)])
    assert analysis.matches.truth.tolist() == [-1, 1, -1, -1]
    assert analysis.matches.ignored.tolist() == [True, False, True, False]  # the last is of another class
    assert analysis.matches.wrong.tolist() == [False, False, False, True]


@given(st.integers(0, 10_000), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_properties(random_scene: Callable[..., Analysis], seed: int, threshold: float) -> None:
    analysis = random_scene(seed, images=3)
    found, truth, matches = analysis.detections, analysis.truth, analysis.matches
    taken = matches.truth[matches.correct]
    assert len(set(taken.tolist())) == len(taken)
    assert (found.labels[matches.correct] == truth.labels[taken]).all()
    assert (found.image[matches.correct] == truth.image[taken]).all()
    assert (matches.overlap[matches.correct] >= 0.5).all()
    assert not truth.crowd[taken].any()
    assert not (matches.correct & matches.wrong).any()
    assert not (matches.correct & matches.ignored).any()
    # no detection and object that are both free would match
    free = ~matches.correct[analysis.pairs.detection] & (matches.detection[analysis.pairs.truth] < 0)
    free &= (found.labels[analysis.pairs.detection] == truth.labels[analysis.pairs.truth]) & ~truth.crowd[
        analysis.pairs.truth
    ]
    assert not (analysis.pairs.overlap[free] >= 0.5).any()
    # a threshold on the score before matching leaves the matches of the others as they are
    kept = found.scores > threshold
    subset = type(found)(found.image[kept], found.boxes[kept], found.scores[kept], found.labels[kept])
    alone = match(subset, truth, overlapping_pairs(subset, truth))
    assert alone.truth.tolist() == matches.truth[kept].tolist()
    assert alone.ignored.tolist() == matches.ignored[kept].tolist()


def test_a_long_chain_of_refusals_is_settled() -> None:
    """Each detection wants the object of the one before: the longest possible course."""
    count = 200
    detection = np.repeat(np.arange(count), np.arange(1, count + 1))
    truth = np.concatenate([np.arange(i + 1) for i in range(count)])
    found, _, finder = assign(Pairs(detection, truth, 1 - truth / 1000), np.linspace(1, 0.5, count), count)
    assert found.tolist() == list(range(count))
    assert finder.tolist() == list(range(count))


def test_nothing_matches_nothing(scene: Callable[..., Analysis]) -> None:
    for analysis in (scene([], []), scene([], [], images=0), scene([(0, 0, 0, 9, 9, 0)], [])):
        assert len(analysis.pairs.detection) == len(analysis.matches.truth) == 0
    alone = scene([], [(0, 0, 0, 9, 9, 0, 0.5)])
    assert alone.matches.wrong.tolist() == [True]
    assert alone.matches.overlap.tolist() == [0.0]


def test_a_box_without_extent_overlaps_nothing(scene: Callable[..., Analysis]) -> None:
    analysis = scene([(0, 5, 5, 5, 9, 0), (0, 0, 0, 0, 0, 0)], [(0, 5, 5, 5, 9, 0, 0.5), (0, 0, 0, 0, 0, 0, 0.4)])
    assert len(analysis.pairs.detection) == 0
    assert analysis.matches.wrong.all()
