"""The paired bootstrap against pycocotools, and what the comparison of two runs says."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolo.core.errors import UsageError
from yolo.training.metrics import Detected, Evaluator, Protocol
from yolo.training.report.bootstrap import draws, score
from yolo.training.report.compare import compare, protocol_differences, require_same_truth
from yolo.training.report.compare_sections import verdict

NAMES = ("cat", "dog", "owl", "never")


def ap_of_coco(table, found) -> tuple[np.ndarray, np.ndarray]:
    """AP and AP50 of each class by pycocotools, NaN without truth."""
    evaluator = Evaluator(table)
    evaluator.update(range(len(table)), found)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = table.coco_ground_truth()
        truth.createIndex()
        coco = COCOeval(truth, truth.loadRes(evaluator.coco_detections()), "bbox")
        coco.evaluate()
        coco.accumulate()
    precision = coco.eval["precision"][:, :, :, 0, 2]
    precision = np.where(precision < 0, np.nan, precision)
    return precision.mean(axis=(0, 1)), precision[0].mean(axis=0)


def test_weights_of_one_give_the_ap_of_pycocotools(make_table, make_found, make_run):
    table = make_table(60, NAMES)
    found = make_found(table)
    ap, ap50 = ap_of_coco(table, found)
    analysis = make_run(table, found).evaluation.analysis
    assert analysis.truth.crowd.any()
    assert analysis.matches.ignored.any()
    scores = score(analysis, np.ones((60, 2), np.int32))
    assert scores.ap[:, 1] == pytest.approx(ap, abs=1e-6, nan_ok=True)
    assert scores.ap50[:, 0] == pytest.approx(ap50, abs=1e-6, nan_ok=True)
    assert np.isnan(scores.ap[3]).all()
    assert scores.f1[:3, 0] == pytest.approx(analysis.counts.f1()[:3], abs=1e-12)


def test_equal_scores_and_more_than_a_hundred_detections_of_a_class(make_table, make_found, make_run):
    table = make_table(8, NAMES, most=9)
    found = []
    for entry in make_found(table, extra=130.0, jitter=0.02):
        found.append(Detected(entry.boxes, np.round(entry.scores, 1), np.zeros_like(entry.labels)))
    assert max(len(entry.scores) for entry in found) > 120
    ap, _ = ap_of_coco(table, found)
    assert score(make_run(table, found).evaluation.analysis, np.ones((8, 1), np.int32)).ap[:, 0] == pytest.approx(
        ap, abs=1e-6, nan_ok=True
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_weight_is_an_image_that_is_there_so_often(make_table, make_found, make_run, seed):
    """The whole shortcut: a draw is measured as pycocotools measures the images that were drawn."""
    table = make_table(12, NAMES, seed=seed)
    found = make_found(table, seed=seed)
    weights = draws(12, 3, seed=seed)
    assert (weights.sum(axis=0) == 12).all()
    scores = score(make_run(table, found).evaluation.analysis, weights)
    for column in range(3):
        rows = np.repeat(np.arange(12), weights[:, column])
        drawn = replace(table.select(rows), image_ids=np.arange(len(rows), dtype=np.int64))
        again = [found[row] for row in rows]
        ap, ap50 = ap_of_coco(drawn, again)
        assert scores.ap[:, column] == pytest.approx(ap, abs=1e-6, nan_ok=True)
        assert scores.ap50[:, column] == pytest.approx(ap50, abs=1e-6, nan_ok=True)
        f1 = make_run(drawn, again).evaluation.counts.f1()
        seen = ~np.isnan(ap)
        assert scores.f1[seen, column] == pytest.approx(f1[seen], abs=1e-12)


def test_blocks_do_not_change_the_result(make_table, make_found, make_run, monkeypatch):
    table = make_table(12, NAMES)
    analysis, weights = make_run(table, make_found(table)).evaluation.analysis, draws(12, 7)
    whole = score(analysis, weights)
    monkeypatch.setattr("yolo.training.report.bootstrap._CELLS", 30)
    parts = score(analysis, weights)
    assert np.array_equal(whole.ap, parts.ap, equal_nan=True)


def test_a_run_and_itself_differ_by_nothing(run):
    comparison = compare(run.evaluation, run.evaluation, resamples=100)
    for difference in comparison.overall.values():
        assert (difference.value, difference.low, difference.high, difference.clear) == (0, 0, 0, False)
    assert comparison.overall["AP"].first == pytest.approx(run.evaluation.stats.AP, abs=1e-6)
    assert comparison.overall["AP50"].first == pytest.approx(run.evaluation.stats.AP50, abs=1e-6)
    assert comparison.overall["F1"].first == pytest.approx(run.evaluation.counts.means()[2], abs=1e-12)
    assert comparison.warnings == ()


def test_noise_on_the_boxes_is_a_clear_loss(make_table, make_found, make_run):
    table = make_table(60, NAMES)
    good, bad = (make_run(table, make_found(table, jitter=jitter)).evaluation for jitter in (0.02, 0.12))
    worse, better = compare(good, bad, resamples=300), compare(bad, good, resamples=300)
    assert worse.overall["AP"].high < 0 < better.overall["AP"].low
    assert worse.overall["AP"].clear
    assert better.overall["AP"].low == pytest.approx(-worse.overall["AP"].high)
    assert all(row.clear and row.high < 0 for row in worse.classes["AP"][:3])
    assert np.isnan(worse.classes["AP"][3].value)
    assert not worse.classes["AP"][3].clear
    assert worse.as_dict()["per_class"][3]["AP"]["difference"] is None


def test_detectors_of_the_same_quality_are_seldom_called_different(make_table, make_found, make_run):
    """Intervals of 95 % are wrong in about one case of twenty: measured 5 % of 300; of 24, more than 5 are too many."""
    clear = 0
    for seed in range(24):
        table = make_table(60, NAMES, seed=seed)
        one, two = (make_run(table, make_found(table, seed=1000 + 2 * seed + k)).evaluation for k in (0, 1))
        difference = compare(one, two, resamples=200).overall["AP"]
        assert difference.low < difference.value < difference.high
        clear += difference.clear
    assert clear <= 5


def test_the_draws_are_repeatable_and_depend_on_the_seed():
    assert np.array_equal(draws(9, 4, seed=3), draws(9, 4, seed=3))
    assert not np.array_equal(draws(9, 4, seed=3), draws(9, 4, seed=4))


def test_few_images_are_never_clear(make_table, make_found, make_run):
    table = make_table(9, NAMES, most=9)
    good, bad = (make_run(table, make_found(table, jitter=jitter)).evaluation for jitter in (0.01, 0.3))
    difference = compare(good, bad, resamples=100).overall["AP"]
    assert difference.high < 0
    assert not difference.clear
    assert verdict(difference) == "too few images"


def test_another_truth_is_refused_in_one_line_that_says_why(make_table):
    table, files = make_table(6, NAMES), ("a_metrics.json", "b_metrics.json")
    require_same_truth(table, make_table(6, NAMES), files)
    moved = table.boxes.copy()
    moved[0] += 1
    cases = {
        "6 images against 5": table.select(np.arange(5)),
        "other images": replace(table, image_ids=table.image_ids + 1),
        r"4 classes \(cat, dog, owl, ...\) against 4 classes \(cat, dog, ox": replace(
            table, class_names=("cat", "dog", "ox", "never")
        ),
        "the same images with other objects": replace(table, boxes=moved),
    }
    for words, other in cases.items():
        with pytest.raises(UsageError, match=words) as caught:
            require_same_truth(table, other, files)
        assert "a_metrics.json and b_metrics.json" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_another_protocol_is_said(run):
    other = replace(run.evaluation, protocol=Protocol(0.001, 0.7, 300, (320, 320)), operating_confidence=0.3)
    assert protocol_differences(run.evaluation, other) == (
        "The protocols differ: NMS IoU 0.65 in the first run, 0.7 in the second.",
        "The protocols differ: size 640x480 in the first run, 320x320 in the second.",
        "The protocols differ: production threshold 0.25 in the first run, 0.3 in the second.",
    )
