"""What keeps AP from 1: errors by cause, and the AP that mending each would gain.

TIDE: A General Toolbox for Identifying Object Detection Errors, arXiv:2008.08115, sections 2.2 and 2.3. Where a
detection fits two causes, localisation goes before classification, and that before duplicate. Counts and gains equal
those of its authors' program, but for three rules: a detection in a crowd is no error, only classes with truth are
averaged over, and a class of which nothing is left to find counts as found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo.training.metrics.curves import mean_ap, precision_at_recall
from yolo.training.metrics.flat import Detections, Floats, Indices, Truth
from yolo.training.metrics.matching import FAINT_OVERLAP, Matches, Pairs

CAUSES = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(CAUSES))
_NONE = -1


@dataclass(frozen=True, eq=False)
class ErrorBudget:
    """Errors of an evaluation at one overlap, over all confidences.

    Attributes:
        iou: overlap at which a detection counts as correct.
        ap: AP at that overlap, 0 to 1.
        counts: number of errors by cause.
        gains: AP that would be won if the errors of one cause were mended, by cause. The best detection that nearly
            found an object is moved or renamed; all others are removed; missed objects are not asked for.
        unfound: number of objects that were not found, by what the best detection that nearly found them did wrong
            (``missed`` where there was none).
        gain_without_false_positives: AP won if every false positive were removed.
        gain_without_misses: AP won if every object that was not found were no longer asked for.
        cause: int64 ``[N]`` index into :data:`CAUSES` of each detection, -1 where it is no error.
        object: int64 ``[N]`` the object that a misplaced, misclassified or repeated detection is about, else -1.
        missed: bool ``[M]`` objects that no detection is about.
    """

    iou: float
    ap: float
    counts: dict[str, int]
    gains: dict[str, float]
    unfound: dict[str, int]
    gain_without_false_positives: float
    gain_without_misses: float
    cause: Indices
    object: Indices
    missed: NDArray[np.bool_]


def error_budget(
    detections: Detections, truth: Truth, pairs: Pairs, matches: Matches, *, iou: float = 0.5
) -> ErrorBudget:
    """Find the cause of every error.

    Args:
        detections: of all scores.
        truth: objects and crowds.
        pairs: with every overlap of at least :data:`FAINT_OVERLAP`.
        matches: at ``iou``.
        iou: overlap at which a detection counts as correct.
    """
    cause, about = _causes(detections, truth, pairs, matches, iou)
    unfound = ~truth.crowd & (matches.detection < 0)
    nearly = (cause == CLASSIFICATION) | (cause == LOCALISATION)
    covered = np.zeros(len(truth), bool)
    covered[about[nearly]] = True
    missed = unfound & ~covered
    mended = _first_for_each_object(nearly, about, unfound, detections.scores)

    whole = truth.per_class
    correct, wrong = matches.correct, matches.wrong
    present = whole > 0
    by_score = np.argsort(-detections.scores, kind="stable")

    def ap(right: NDArray[np.bool_], bad: NDArray[np.bool_], labels: Indices, asked: Indices) -> float:
        curves = precision_at_recall(labels[by_score], right[by_score], bad[by_score], asked)
        curves[present & (asked == 0)] = 1.0  # a class of which nothing is left to find is found
        return mean_ap(curves)

    labels = detections.labels
    base = ap(correct, wrong, labels, whole)
    gains = {}
    for index, name in enumerate(CAUSES[:MISSED]):
        of_cause = cause == index
        right, new_labels = correct, labels
        if index in (CLASSIFICATION, LOCALISATION) and len(truth):
            fixed = mended & of_cause
            right = correct | fixed
            new_labels = np.where(fixed, truth.labels[about], labels)
        gains[name] = ap(right, wrong & ~of_cause, new_labels, whole) - base
    gone = np.bincount(truth.labels[missed], minlength=len(whole))
    gains["missed"] = ap(correct, wrong, labels, whole - gone) - base
    all_gone = np.bincount(truth.labels[unfound], minlength=len(whole))
    counts = {name: int((cause == index).sum()) for index, name in enumerate(CAUSES)} | {"missed": int(missed.sum())}
    return ErrorBudget(
        iou=iou,
        ap=base,
        counts=counts,
        gains=gains,
        unfound={CAUSES[index]: int((cause[mended] == index).sum()) for index in (CLASSIFICATION, LOCALISATION)}
        | {"missed": int(missed.sum())},
        gain_without_false_positives=ap(correct, np.zeros_like(wrong), labels, whole) - base,
        gain_without_misses=ap(correct, wrong, labels, whole - all_gone) - base,
        cause=cause,
        object=about,
        missed=missed,
    )


def _causes(
    detections: Detections, truth: Truth, pairs: Pairs, matches: Matches, iou: float
) -> tuple[Indices, Indices]:
    """The cause of each false positive and the object that it is about."""
    real = pairs.select(~truth.crowd[pairs.truth])
    same = detections.labels[real.detection] == truth.labels[real.truth]
    own, own_object = _nearest(real.select(same), len(detections))
    other, other_object = _nearest(real.select(~same), len(detections))
    choices = (
        (LOCALISATION, (own >= FAINT_OVERLAP) & (own < iou), own_object),
        (CLASSIFICATION, other >= iou, other_object),
        (DUPLICATE, own >= iou, own_object),
        (BOTH, other >= FAINT_OVERLAP, other_object),
    )
    cause = np.full(len(detections), BACKGROUND)
    about = np.full(len(detections), _NONE)
    for kind, applies, where in reversed(choices):  # the first that applies is written last
        cause[applies], about[applies] = kind, where[applies]
    return np.where(matches.wrong, cause, _NONE), np.where(matches.wrong, about, _NONE)


def _nearest(pairs: Pairs, count: int) -> tuple[Floats, Indices]:
    """The largest overlap of each detection, 0 without any, and the object that it is with."""
    order = np.lexsort((pairs.overlap, pairs.detection))
    overlap, nearest = np.zeros(count), np.full(count, _NONE)
    overlap[pairs.detection[order]] = pairs.overlap[order]  # the last write, which is the largest, stays
    nearest[pairs.detection[order]] = pairs.truth[order]
    return overlap, nearest


def _first_for_each_object(
    rows: NDArray[np.bool_], about: Indices, unfound: NDArray[np.bool_], scores: Floats
) -> NDArray[np.bool_]:
    """Of the detections that are about one unfound object, the one with the highest score."""
    first = np.zeros(len(scores), bool)
    candidates = np.flatnonzero(rows)
    candidates = candidates[unfound[about[candidates]]]
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    first[candidates[np.unique(about[candidates], return_index=True)[1]]] = True
    return first
