"""What measurements of loading and training say: which side is slower, and which settings would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from yolo.training.tuning.clock import Rate
from yolo.training.tuning.loading import Variant
from yolo.training.tuning.steps import StepFigures

_WAITS = 0.1  # share of the time from which on a training is said to wait for images
_RESERVE = 1.2  # a loader that is faster by this is never waited for
_CLEARLY = 1.05
_WORTH = 1.1
_UNKNOWN = 0.2


@dataclass(frozen=True)
class Measured:
    """All that was measured.

    Attributes:
        workers: processes that a training with these settings has.
        loaders: the loader alone, by number of workers.
        model: the network alone.
        together: a training, by number of workers; ``workers`` is among them.
        variants: other ways to make samples; the present one first.
    """

    workers: int
    loaders: Mapping[int, Rate]
    model: StepFigures
    together: Mapping[int, StepFigures]
    variants: Sequence[Variant]


@dataclass(frozen=True)
class Verdict:
    """What follows.

    Attributes:
        slower: ``loader``, ``model``, or ``both``, when they compete for the same processors.
        text: one line.
        options: for ``yolo fit``, each with its reason.
    """

    slower: Literal["loader", "model", "both"]
    text: str
    options: tuple[tuple[str, str], ...] = ()


def enough_workers(loaders: Mapping[int, Rate], needed: float) -> int:
    """Return the fewest workers with a reserve over a needed rate; where there are none, the fewest that are fastest.

    Args:
        loaders: images a second by number of workers.
        needed: images a second.
    """
    fitting = [count for count, rate in loaders.items() if rate.median >= _RESERVE * needed]
    if fitting:
        return min(fitting)
    best = max(rate.median for rate in loaders.values())
    return min(count for count, rate in loaders.items() if rate.median * _CLEARLY >= best)


def judge(found: Measured) -> Verdict:
    """Weigh the figures."""
    now = found.together[found.workers]
    alone, together = _median(found.model.rate), _median(now.rate)
    loader = found.loaders[found.workers].median
    waits = now.waiting >= _WAITS
    slower: Literal["loader", "model", "both"] = "loader" if waits else "model"
    if not waits and together * _WORTH < alone:
        slower = "both"
    figures = (
        f"loading alone gives {_number(loader)} images/s with {_workers(found.workers)}, the network alone takes "
        f"{_number(alone)}, together they reach {_number(together)} and wait for images {_percent(now.waiting)} of "
        "the time"
    )
    said = {
        "loader": "Loading is slower than the network",
        "model": "The network is slower than loading",
        "both": "Loading and the network take processors from each other",
    }
    options = [*_worker_option(found), *(_cheaper(found, alone) if slower != "model" else ())]
    return Verdict(slower, f"{said[slower]}: {figures}.", tuple(options))


def _worker_option(found: Measured) -> list[tuple[str, str]]:
    present = found.together[found.workers].rate
    now = _median(present)
    best = max(found.together, key=lambda count: _median(found.together[count].rate))
    rate = _median(found.together[best].rate)
    if best != found.workers and rate > now * max(_CLEARLY, 1 + _noise(present, found.together[best].rate)):
        return [(f"--data.num_workers {best}", f"{_number(rate)} images/s together instead of {_number(now)}")]
    fewer = [
        count
        for count, figures in found.together.items()
        if count < found.workers and figures.waiting < _WAITS / 2 and _median(figures.rate) * _CLEARLY >= now
    ]
    if fewer:
        rate = _median(found.together[min(fewer)].rate)
        return [(f"--data.num_workers {min(fewer)}", f"as fast ({_number(rate)} images/s) with fewer processes")]
    return []


def _cheaper(found: Measured, needed: float) -> list[tuple[str, str]]:
    """Ways to make samples that are clearly quicker, the quickest first; none where workers alone suffice."""
    accelerated = found.model.device != "cpu"
    if accelerated and max(rate.median for rate in found.loaders.values()) >= _RESERVE * needed:
        return []
    present, *others = found.variants
    options = []
    for variant in sorted(others, key=lambda variant: -variant.rate.median):
        gain = variant.rate.median / present.rate.median
        if gain >= max(_WORTH, 1 + _noise(variant.rate, present.rate)):
            reason = f"{gain:.1f} times as many samples from each process"
            reason += " (estimated)" if variant.estimated else ""
            options.append((f"--{variant.name}", reason + (f"; it costs {variant.price}" if variant.price else "")))
    return options


def _noise(*rates: Rate | None) -> float:
    """How far rates may be off together; nobody knows that of a single measurement."""
    return sum(_UNKNOWN if rate.spread is None else rate.spread for rate in rates if rate is not None)


def _median(rate: Rate | None) -> float:
    return 0.0 if rate is None else rate.median


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers" if count else "no workers"
