"""The differences of two runs on the same images, with their uncertainty."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolo.core.errors import UsageError
from yolo.data.labels import LabelTable
from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.evaluator import Evaluation, Protocol
from yolo.training.metrics.flat import Floats
from yolo.training.report.bootstrap import draws, score

RESAMPLES = 1000
ENOUGH = 10  # images with an object; of fewer the draws cannot tell how different other images might be
_TAILS = (2.5, 97.5)  # percent
_METRICS = {"AP": "ap", "AP50": "ap50", "F1": "f1"}


@dataclass(frozen=True)
class Difference:
    """A metric of two runs.

    Attributes:
        first: of the first run; NaN without objects.
        second: of the second run.
        low: lower end of the 95 % interval of ``second - first``.
        high: upper end.
        images: with an object that it is about.
    """

    first: float
    second: float
    low: float
    high: float
    images: int

    @property
    def value(self) -> float:
        """How much more the second run has."""
        return self.second - self.first

    @property
    def enough(self) -> bool:
        """Whether there are images enough to trust the interval."""
        return self.images >= ENOUGH

    @property
    def clear(self) -> bool:
        """Whether there are images enough, and the interval excludes zero."""
        return self.enough and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs on the same images.

    Attributes:
        overall: by metric, averaged over the classes that have truth.
        classes: by metric, one for each class.
        class_names: in label order.
        resamples: number of draws.
        seed: of the draws.
        warnings: in what the runs differ besides their results.
    """

    overall: dict[str, Difference]
    classes: dict[str, tuple[Difference, ...]]
    class_names: tuple[str, ...]
    resamples: int
    seed: int
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        per_class = [
            {"class": name} | {metric: _plain(rows[i]) for metric, rows in self.classes.items()}
            for i, name in enumerate(self.class_names)
        ]
        return {
            "resamples": self.resamples,
            "seed": self.seed,
            "warnings": list(self.warnings),
            "overall": {metric: _plain(difference) for metric, difference in self.overall.items()},
            "per_class": per_class,
        }


def compare(first: Evaluation, second: Evaluation, *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare two runs by a paired bootstrap over images.

    Args:
        first: evaluation with its analysis.
        second: of the same images and truth, see :func:`require_same_truth`.
        resamples: number of draws.
        seed: of the draws.
    """
    if first.analysis is None or second.analysis is None:
        raise ValueError("only the process that holds the detections can compare them")
    images = first.analysis.truth.images
    weights = np.hstack([np.ones((images, 1), np.int32), draws(images, resamples, seed=seed)])  # first: as they are
    scores = score(first.analysis, weights), score(second.analysis, weights)
    seen = _images_by_class(first.analysis)
    overall, classes = {}, {}
    for metric, name in _METRICS.items():
        one, two = (getattr(run, name) for run in scores)
        overall[metric] = _differences(_over_classes(one), _over_classes(two), [images])[0]
        classes[metric] = _differences(one, two, seen)
    told = protocol_differences(first, second)
    return Comparison(overall, classes, first.class_names, resamples, seed, told)


def require_same_truth(first: LabelTable, second: LabelTable, names: tuple[str, str]) -> None:
    """Refuse runs that were not measured against the same objects.

    Args:
        first: truth of the first run, images in ascending order of their ids.
        second: of the second.
        names: of the files, for the message.

    Raises:
        UsageError: the truth differs.
    """
    fields = ("image_ids", "sizes", "offsets", "labels", "crowd", "boxes", "area")
    if first.class_names != second.class_names:
        reason = f"{_shown(first.class_names)} against {_shown(second.class_names)}"
    elif len(first) != len(second):
        reason = f"{len(first)} images against {len(second)}"
    elif not np.array_equal(first.image_ids, second.image_ids):
        reason = "other images"
    elif any(not np.array_equal(getattr(first, name), getattr(second, name)) for name in fields):
        reason = "the same images with other objects"
    else:
        return
    raise UsageError(
        f"{names[0]} and {names[1]} were measured on different data ({reason}); "
        "a comparison needs two runs on the same images: validate both with the same data settings"
    )


def protocol_differences(first: Evaluation, second: Evaluation) -> tuple[str, ...]:
    """Say in what the protocols of two evaluations differ, a line each."""

    def settings(evaluation: Evaluation) -> dict[str, object]:
        protocol: Protocol = evaluation.protocol
        width, height = protocol.size
        return {
            "smallest confidence": f"{protocol.confidence:g}",
            "NMS IoU": f"{protocol.iou:g}",
            "most detections": protocol.max_detections,
            "size": f"{width}x{height}",
            "weights": protocol.weights,
            "production threshold": f"{evaluation.operating_confidence:g}",
        }

    one, two = settings(first), settings(second)
    return tuple(
        f"The protocols differ: {name} {one[name]} in the first run, {two[name]} in the second."
        for name in one
        if one[name] != two[name]
    )


def _images_by_class(analysis: Analysis) -> list[int]:
    truth = analysis.truth
    pairs = np.unique(np.stack([truth.labels, truth.image])[:, ~truth.crowd], axis=1)
    counts: list[int] = np.bincount(pairs[0], minlength=len(truth.class_names)).tolist()
    return counts


def _differences(first: Floats, second: Floats, images: Sequence[int]) -> tuple[Difference, ...]:
    """Compare rows ``[rows, 1 + R]``: results of all images, then of the draws."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rows where there is nothing
        low, high = np.nanpercentile((second - first)[:, 1:], _TAILS, axis=1)
    columns = zip(first[:, 0].tolist(), second[:, 0].tolist(), low.tolist(), high.tolist(), images, strict=True)
    return tuple(Difference(*row) for row in columns)


def _over_classes(values: Floats) -> Floats:
    """Mean of ``[classes, 1 + R]`` over the classes that have truth, as one row; NaN where none has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of an empty mean
        mean: Floats = np.nanmean(values, axis=0, keepdims=True)
    return mean


def _plain(difference: Difference) -> dict[str, float | bool | None]:
    values = {"first": difference.first, "second": difference.second, "difference": difference.value,
              "low": difference.low, "high": difference.high}  # fmt: skip
    plain = {key: None if np.isnan(value) else value for key, value in values.items()}
    return plain | {"images": difference.images, "clear": difference.clear}


def _shown(names: Sequence[str]) -> str:
    few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} classes ({few})"
