"""Pictures that occur more than once, within a split and across splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.data.check.hashing import near_pairs
from yolo.data.formats.report import Finding, Severity, show

#: Grey levels, of 255, by which cells of two thumbnails differ on average at most, their brightness aside.
ALIKE = 4.0
#: Grey levels by which the brightness of two thumbnails may differ.
BRIGHTNESS = 32.0
#: Of the copies of a picture, the one in the first of these splits stays: measuring must not change.
KEEP_IN = ("test", "val", "train")


@dataclass
class Pictures:
    """What is remembered of every picture that was decoded.

    Attributes:
        paths: of the files.
        splits: that each belongs to.
        hashes: perceptual hashes.
        thumbs: uint8 ``[16, 16]`` each.
    """

    paths: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    thumbs: list[NDArray[np.uint8]] = field(default_factory=list)


@dataclass(frozen=True)
class Duplicates:
    """Copies.

    Attributes:
        findings: one for each picture that occurs before.
        spare: (split, path) of the copies to leave out of a repaired data set: identical files, and every copy in the
            training data of a picture that is measured on.
    """

    findings: list[Finding]
    spare: set[tuple[str, str]]


def find_duplicates(pictures: Pictures) -> Duplicates:
    """Group the pictures that look the same and tell of all but the first of each group.

    Within a split identical files are warnings, and pictures that only look the same are information (the frames of a
    video do). Across splits both are warnings: what is measured is then not what was never seen.
    """
    findings: list[Finding] = []
    spare: set[tuple[str, str]] = set()
    for group in _groups(pictures):
        group.sort(key=lambda item: (KEEP_IN.index(pictures.splits[item]), pictures.paths[item]))
        for item, other, same in _earlier(pictures, group):
            finding = _finding(pictures, item, other, same=same)
            findings.append(finding)
            if finding.severity == "warning":
                spare.add((pictures.splits[item], pictures.paths[item]))
    return Duplicates(findings, spare)


def _earlier(pictures: Pictures, group: Sequence[int]) -> Iterator[tuple[int, int, bool]]:
    """For each picture of a group an earlier one in its split and one in another, identical ones preferred.

    Yields:
        Picture, earlier picture, whether the files are identical.
    """
    identical: dict[bytes, int] = {}
    identical_here: dict[tuple[bytes, str], int] = {}
    here: dict[str, int] = {}
    for item in group:
        split, digest = pictures.splits[item], _digest(pictures.paths[item])
        beside = identical_here.get((digest, split))
        if beside is not None or split in here:
            yield item, here[split] if beside is None else beside, beside is not None
        across = identical.get(digest)
        if across is not None and pictures.splits[across] != split:
            yield item, across, True
        elif pictures.splits[group[0]] != split:
            yield item, group[0], False
        identical.setdefault(digest, item)
        identical_here.setdefault((digest, split), item)
        here.setdefault(split, item)


def _finding(pictures: Pictures, item: int, other: int, *, same: bool) -> Finding:
    across = pictures.splits[item] != pictures.splits[other]
    if pictures.paths[item] == pictures.paths[other]:
        text = f"the file is in {pictures.splits[item]} and in {pictures.splits[other]}"
    else:
        verb = "is the same file as" if same else "looks the same as"
        where = f" of {pictures.splits[other]}" if across else ""
        text = f"the picture {verb} {show(pictures.paths[other])}{where}"
    if across:
        text += not_independent(pictures.splits[item], pictures.splits[other])
    kind = ("" if same else "near-") + "duplicate-image" + ("-across-splits" if across else "")
    severity: Severity = "warning" if same or across else "info"
    return Finding(kind, severity, pictures.paths[item], None, text)


def not_independent(one: str, other: str) -> str:
    """What it means that two splits share a picture, to be put behind the finding."""
    if "train" in (one, other):
        return f": {other if one == 'train' else one} measures on what was trained on"
    return ": the two are not independent"


def _groups(pictures: Pictures) -> list[list[int]]:
    """Positions of pictures that look the same, two or more each."""
    if not pictures.hashes:
        return []
    thumbs = np.stack(pictures.thumbs).reshape(len(pictures.thumbs), -1)
    values, of_value = np.unique(np.array(pictures.hashes, np.uint64), return_inverse=True)
    # Sorted by the picture within one hash: equal ones then lie side by side.
    order = np.lexsort((*thumbs.T[::16], thumbs.mean(axis=1), of_value))
    first = np.zeros(len(values), np.int64)
    first[of_value[order[::-1]]] = order[::-1]
    beside = of_value[order[1:]] == of_value[order[:-1]]
    pairs = np.concatenate([np.stack([order[:-1], order[1:]], axis=1)[beside], first[near_pairs(values)]])
    leader = np.arange(len(thumbs))
    for one, other in pairs[_alike(thumbs, pairs)].tolist():
        leader[_lead(leader, one)] = _lead(leader, other)
    members: dict[int, list[int]] = {}
    for item in np.unique(pairs).tolist():
        members.setdefault(_lead(leader, item), []).append(item)
    return [group for group in members.values() if len(group) > 1]


def _alike(thumbs: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    result = np.zeros(len(pairs), np.bool_)
    for start in range(0, len(pairs), 4096):
        part = pairs[start : start + 4096]
        difference = thumbs[part[:, 0]].astype(np.float32) - thumbs[part[:, 1]]
        brightness = difference.mean(axis=1, keepdims=True)
        spread = np.abs(difference - brightness).mean(axis=1)
        result[start : start + 4096] = (spread <= ALIKE) & (np.abs(brightness[:, 0]) <= BRIGHTNESS)
    return result


def _lead(leader: NDArray[np.int64], item: int) -> int:
    """The representative of an item's group (union-find with path halving)."""
    while leader[item] != item:
        leader[item] = leader[leader[item]]
        item = int(leader[item])
    return item


def _digest(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return path.encode("utf-8", "surrogateescape")
