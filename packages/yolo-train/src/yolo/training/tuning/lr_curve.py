"""What a range test of the learning rate says (Smith, arXiv:1506.01186, section 3.3)."""

from __future__ import annotations

import csv
import io
import math
import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo.core.files import write_atomically

SMOOTHING = 0.9
"""Share of the past in the running mean that tells whether the loss runs away."""
DIVERGED = 4.0
"""Times the lowest running mean at which it has."""
_KEEP = 0.85  # share that each step further away has in the smoothed loss of a step
_BEGINNING = 0.1  # share of the steps that tells what the loss was at first
_AROUND = 0.1  # share of the steps on either side over which a slope is measured
_CLEARLY = 0.02  # share of the loss at first by which it has to fall


@dataclass(frozen=True)
class Point:
    """One optimiser step.

    Attributes:
        step: counted from 0.
        rate: that it was taken with.
        loss: of its batches, a sample, before it.
    """

    step: int
    rate: float
    loss: float


class Smoother:
    """A running mean that forgets, corrected for beginning at zero (Kingma and Ba, arXiv:1412.6980, section 3).

    Args:
        keep: share of the past that each value leaves.
    """

    def __init__(self, keep: float = SMOOTHING) -> None:
        self.keep = keep
        self._sum = 0.0
        self._count = 0

    def add(self, value: float) -> float:
        """Take a value in and return the mean."""
        self._count += 1
        self._sum = self.keep * self._sum + (1 - self.keep) * value
        return self._sum / (1 - self.keep**self._count)


def ramp(low: float, high: float, steps: int) -> list[float]:
    """Return rates from ``low`` to ``high``, each the same factor above the one before."""
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


def smoothed(points: Sequence[Point]) -> list[float]:
    """Return means of the losses around each step, which the nearer ones weigh more in.

    Looking back only, as a running mean does, would make every rate that is read off the curve too high: with a hundred
    steps over five powers of ten by a factor of two or three. A loss of more than twice the first ones counts as that,
    so that the end of the curve does not bend what comes before it.
    """
    limit = 2 * _first(points)
    losses = [min(point.loss, limit) for point in points]
    found = []
    for at in range(len(losses)):
        weights = [_KEEP ** abs(at - other) for other in range(len(losses))]
        found.append(sum(map(operator.mul, weights, losses)) / sum(weights))
    return found


def _first(points: Sequence[Point]) -> float:
    return statistics.median(point.loss for point in points[: max(round(_BEGINNING * len(points)), 3)])


@dataclass(frozen=True)
class Reading:
    """What is read off the curve.

    Attributes:
        rate: to use; None where the loss neither falls nor runs away.
        steepest: where the smoothed loss falls fastest over the logarithm of the rate; None where it does not fall.
        lowest: where it is lowest.
        diverged: where it ran away; None where it did not.
    """

    rate: float | None
    steepest: float | None
    lowest: float
    diverged: float | None

    @property
    def rule(self) -> str:
        """Why this rate."""
        tenth = self.diverged is not None and self.rate == self.diverged / 10
        return "a tenth of the rate at which the loss runs away" if tenth else "where the loss falls fastest"


def read_curve(points: Sequence[Point], *, diverged: bool) -> Reading:
    """Suggest a rate: where the loss falls fastest, but no more than a tenth of the rate at which it ran away.

    Args:
        points: ten or more, in order, with finite losses.
        diverged: whether the last one is that at which the loss ran away.
    """
    losses, last = smoothed(points), len(points) - 1
    lowest = min(range(len(points)), key=losses.__getitem__)
    around = max(round(_AROUND * len(points)), 1)
    slopes = {}
    for at in range(around, lowest + 1):
        low, high = at - around, min(at + around, last)
        slopes[at] = (losses[high] - losses[low]) / math.log(points[high].rate / points[low].rate)
    falls = losses[lowest] < (1 - _CLEARLY) * _first(points)
    at = min(slopes, key=slopes.__getitem__, default=0)
    steepest = points[at].rate if falls and slopes.get(at, 0) < 0 else None
    limit = points[-1].rate if diverged else None
    found = [rate for rate in (steepest, limit and limit / 10) if rate is not None]
    return Reading(min(found, default=None), steepest, points[lowest].rate, limit)


def rounded(rate: float) -> float:
    """Return a rate with two digits: more would pretend to a precision that such a test does not have."""
    return float(f"{rate:.1e}")


def write_points(points: Sequence[Point], path: Path) -> None:
    """Write the curve as CSV, atomically."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("step", "rate", "loss", "smoothed"))
    pairs = zip(points, smoothed(points), strict=True)
    rows.writerows((p.step, f"{p.rate:.6g}", f"{p.loss:.6g}", f"{mean:.6g}") for p, mean in pairs)
    write_atomically(path, text.getvalue().encode())


def draw_points(points: Sequence[Point], reading: Reading, path: Path, *, title: str) -> None:
    """Draw the curve with what is read off it.

    Args:
        points: in order.
        reading: of them.
        path: a picture, replaced atomically; the suffix is one of :data:`yolo.training.schedulers.plot.FORMATS`.
        title: above it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    rates, means = [point.rate for point in points], smoothed(points)
    axes.plot(rates, [p.loss for p in points], color="tab:blue", alpha=0.3, linewidth=1, label="loss of each step")
    axes.plot(rates, means, color="tab:blue", linewidth=2, label="smoothed")
    marks = (
        (reading.rate, "tab:green", "-", "suggested"),
        (reading.steepest if reading.steepest != reading.rate else None, "tab:orange", "--", "falls fastest"),
        (reading.diverged, "tab:red", ":", "ran away"),
    )
    for rate, colour, line, name in marks:
        if rate is not None:
            axes.axvline(rate, color=colour, linestyle=line, label=f"{name}: {rounded(rate):g}")
    low, high = min(means), max(means[: max(len(points) // 2, 1)])
    axes.set_ylim(max(low - 0.3 * (high - low), 0), high + 0.6 * (high - low) + 1e-9)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss a sample")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left" if reading.diverged is None else "best")
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix.removeprefix(".").lower())
    write_atomically(path, data.getvalue())
