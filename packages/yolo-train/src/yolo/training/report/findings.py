"""The mistakes that are worth looking at: the surest false positives and the plainest misses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.flat import Floats, Indices
from yolo.training.metrics.tide import CAUSES

MOST_PER_IMAGE = 3  # or one bad picture is all that one sees
_CAUSES = {
    "classification": "the object there is {other}",
    "localisation": "it fits the {other} badly",
    "both": "the object there is {other}, and it fits badly",
    "duplicate": "the {other} is found already",
    "background": "there is no object",
}


@dataclass(frozen=True, eq=False)
class Finding:
    """One mistake.

    Attributes:
        image: row of the image.
        title: what it is, in a few words.
        detail: why it is one.
        box: float64 ``[4]`` xyxy in pixels of the picture.
        predicted: True for a false positive, False for a miss.
        index: of the detection, or of the object.
    """

    image: int
    title: str
    detail: str
    box: Floats
    predicted: bool
    index: int


def false_positives(analysis: Analysis, most: int) -> list[Finding]:
    """Return the false positives above the operating threshold by descending score, at most three of a picture."""
    found, names, errors = analysis.detections, analysis.truth.class_names, analysis.errors
    wrong = np.flatnonzero(analysis.matches.wrong & (found.scores > analysis.confidence))
    ranked = wrong[np.argsort(-found.scores[wrong], kind="stable")]
    findings = []
    for i in _spread(ranked, found.image, most):
        about = errors.object[i]
        other = names[analysis.truth.labels[about]] if about >= 0 else ""
        detail = _CAUSES[CAUSES[errors.cause[i]]].format(other=other)
        title = f"{names[found.labels[i]]} {found.scores[i]:.2f}"
        findings.append(Finding(int(found.image[i]), title, detail, found.boxes[i], True, i))
    return findings


def misses(analysis: Analysis, most: int) -> list[Finding]:
    """Return objects without a detection at the operating threshold, at most three of a picture.

    First those that nothing finds at any score; of these the largest first, as they should have been easiest.
    """
    truth, matches = analysis.truth, analysis.matches
    score = np.where(matches.detection >= 0, np.append(analysis.detections.scores, 0.0)[matches.detection], 0.0)
    missed = np.flatnonzero(~truth.crowd & (score <= analysis.confidence))
    never = matches.detection[missed] < 0
    ranked = missed[np.lexsort((-truth.area[missed], ~never))]
    findings = []
    for i in _spread(ranked, truth.image, most):
        title = f"{truth.class_names[truth.labels[i]]} missed"
        findings.append(
            Finding(int(truth.image[i]), title, _why_missed(analysis, i, score[i]), truth.boxes[i], False, i)
        )
    return findings


def _why_missed(analysis: Analysis, index: int, score: float) -> str:
    if analysis.matches.detection[index] >= 0:
        return f"found, but only with {score:.2f}"
    pairs, found = analysis.pairs, analysis.detections
    near = pairs.select((pairs.truth == index) & (found.scores[pairs.detection] > analysis.confidence))
    if not len(near.detection):
        return "nothing is near it"
    best = near.overlap.argmax()
    detection = near.detection[best]
    name = analysis.truth.class_names[found.labels[detection]]
    return f"nearest: {name} {found.scores[detection]:.2f}, IoU {near.overlap[best]:.2f}"


def nearby(analysis: Analysis, finding: Finding) -> tuple[Floats, Floats]:
    """Return the other boxes of the picture: the objects, and the detections above the operating threshold."""
    found, truth = analysis.detections, analysis.truth
    objects = truth.image == finding.image
    shown = (found.image == finding.image) & (found.scores > analysis.confidence)
    own: NDArray[np.bool_] = shown if finding.predicted else objects
    own[finding.index] = False
    return truth.boxes[objects & ~truth.crowd], found.boxes[shown]


def _spread(ranked: Indices, image: Indices, most: int) -> list[int]:
    """The first ones, leaving out what would be the fourth of its picture."""
    seen: dict[int, int] = {}
    chosen: list[int] = []
    for i in ranked.tolist():
        if len(chosen) == most:
            break
        owner = int(image[i])
        if seen.get(owner, 0) < MOST_PER_IMAGE:
            seen[owner] = seen.get(owner, 0) + 1
            chosen.append(i)
    return chosen
