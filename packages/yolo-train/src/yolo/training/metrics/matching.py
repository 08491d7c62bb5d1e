"""Which detection finds which object: COCO's greedy rule on flat arrays.

A detection of higher score chooses first, and takes the free object that it overlaps most. As every object prefers the
detection of the highest score, this is the stable matching of Gale and Shapley (1962, doi:10.2307/2312726): all
detections can propose at once, and few rounds settle what a loop over detections would settle one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo.training.metrics.flat import Detections, Floats, Indices, Truth

FAINT_OVERLAP = 0.1  # below it a detection is on the background (arXiv:2008.08115, section 2.2)
_PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Detections and objects of one image that overlap, of equal and of different classes.

    Attributes:
        detection: int64 ``[P]`` ascending.
        truth: int64 ``[P]`` ascending for each detection.
        overlap: float64 ``[P]`` IoU; for a crowd the share of the detection that lies in it, as COCO has it.
    """

    detection: Indices
    truth: Indices
    overlap: Floats

    def select(self, keep: NDArray[np.bool_] | Indices) -> Pairs:
        """Return some of the pairs, by a mask or in the order of indices."""
        return Pairs(self.detection[keep], self.truth[keep], self.overlap[keep])


@dataclass(frozen=True, eq=False)
class Matches:
    """The outcome for N detections and M objects at one overlap.

    Attributes:
        truth: int64 ``[N]`` the object that a detection found, else -1.
        overlap: float64 ``[N]`` IoU with that object, else 0.
        ignored: bool ``[N]`` found nothing, but lies in a crowd of its class: counts neither way.
        detection: int64 ``[M]`` the detection that found an object, else -1.
    """

    truth: Indices
    overlap: Floats
    ignored: NDArray[np.bool_]
    detection: Indices

    @property
    def correct(self) -> NDArray[np.bool_]:
        """True positives, bool ``[N]``."""
        return self.truth >= 0

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """False positives, bool ``[N]``."""
        return ~self.correct & ~self.ignored


def overlapping_pairs(detections: Detections, truth: Truth, *, least: float = FAINT_OVERLAP) -> Pairs:
    """Return the pairs of one image whose overlap is at least ``least``, which is above 0."""
    boxes, objects = np.ascontiguousarray(detections.boxes.T), np.ascontiguousarray(truth.boxes.T)
    area, object_area = _area(boxes), _area(objects)
    blocks = [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for detection, owner in _joined(detections.image, truth.image, truth.images):
        inside = np.ones(len(detection))
        for low, high in ((0, 2), (1, 3)):  # most pairs are apart: the second axis is for the others
            side = np.minimum(boxes[high, detection], objects[high, owner])
            side -= np.maximum(boxes[low, detection], objects[low, owner])
            near = side > 0
            detection, owner, inside = detection[near], owner[near], inside[near] * side[near]
        whole = area[detection]
        whole = np.where(truth.crowd[owner], whole, whole + object_area[owner] - inside)
        overlap = inside / whole
        keep = overlap >= least
        blocks.append(Pairs(detection[keep], owner[keep], overlap[keep]))
    return Pairs(
        np.concatenate([block.detection for block in blocks]),
        np.concatenate([block.truth for block in blocks]),
        np.concatenate([block.overlap for block in blocks]),
    )


def match(detections: Detections, truth: Truth, pairs: Pairs, *, iou: float = 0.5) -> Matches:
    """Match detections with objects of their class.

    Args:
        detections: of all scores; a threshold on the score afterwards leaves the matches of the others as they are.
        truth: objects and crowds.
        pairs: of these, at least all with an overlap of ``iou``.
        iou: least overlap.
    """
    same = detections.labels[pairs.detection] == truth.labels[pairs.truth]
    crowd = truth.crowd[pairs.truth]
    near = same & (pairs.overlap >= iou)
    found, overlap, finder = assign(pairs.select(near & ~crowd), detections.scores, len(truth))
    ignored = np.zeros(len(detections), bool)
    ignored[pairs.detection[near & crowd]] = True
    return Matches(found, overlap, ignored & (found < 0), finder)


def assign(pairs: Pairs, scores: Floats, objects: int) -> tuple[Indices, Floats, Indices]:
    """Give each object to at most one detection, which must be paired with it; see the head of this module.

    Equal scores go by position; of equal overlaps the last object is taken, both as in pycocotools.

    Returns:
        The object of each detection or -1, the overlap with it or 0, and the detection of each object or -1.
    """
    by_score = np.argsort(-scores, kind="stable")
    rank = np.empty(len(scores), np.int64)
    rank[by_score] = np.arange(len(scores))
    pairs = pairs.select(np.lexsort((-pairs.truth, -pairs.overlap, rank[pairs.detection])))
    held = pairs.select(settle(rank[pairs.detection], pairs.truth, objects))
    found, overlap, finder = np.full(len(scores), -1), np.zeros(len(scores)), np.full(objects, -1)
    found[held.detection], overlap[held.detection], finder[held.truth] = held.truth, held.overlap, held.detection
    return found, overlap, finder


def settle(rank: Indices, choice: Indices, objects: int, *, shared: NDArray[np.bool_] | None = None) -> Indices:
    """Return which of P pairs hold in the end, at most one of each rank and of each object.

    Args:
        rank: ``[P]`` ascending; of the detections that want an object, the one of the lowest rank has it.
        choice: ``[P]`` objects; those of one detection in the order of its preference.
        objects: how many there are.
        shared: ``[objects]`` those that any number of detections may have.
    """
    holder = np.full(objects, np.iinfo(np.int64).max)
    proposal = np.flatnonzero(np.diff(rank, prepend=-1))
    end = np.append(proposal[1:], len(rank))[: len(proposal)]
    while True:
        wanted = choice[proposal]
        np.minimum.at(holder, wanted, rank[proposal])
        lost = holder[wanted] != rank[proposal]
        if shared is not None:
            lost &= ~shared[wanted]
        if not lost.any():
            return proposal
        proposal = proposal + lost
        left = proposal < end
        proposal, end = proposal[left], end[left]


def _joined(left: Indices, right: Indices, images: int) -> Iterator[tuple[Indices, Indices]]:
    """All pairs of rows with equal image, in blocks; both sides are sorted by image."""
    per_image = np.bincount(right, minlength=images)
    first = np.concatenate([[0], np.cumsum(per_image)])
    counts = per_image[left]
    total = np.cumsum(counts)
    cuts = np.searchsorted(total, np.arange(_PAIRS_AT_ONCE, total[-1] if len(total) else 0, _PAIRS_AT_ONCE))
    for rows in np.split(np.arange(len(left)), cuts):
        block = counts[rows]
        start = np.repeat(first[left[rows]] - (np.cumsum(block) - block), block)
        yield np.repeat(rows, block), start + np.arange(block.sum())


def _area(columns: Floats) -> Floats:
    area: Floats = (columns[2] - columns[0]) * (columns[3] - columns[1])
    return area
