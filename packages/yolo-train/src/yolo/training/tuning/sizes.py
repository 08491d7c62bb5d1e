"""Which batch sizes to try, and which to take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from yolo.training.tuning.clock import Rate

_NEAR, _MOST_NOISE = 0.05, 0.2
_FASTER = 0.1
_GROWS = 1.03


@dataclass(frozen=True, kw_only=True)
class _Rest:
    rate: Rate | None = None
    memory: int | None = None
    capacity: int | None = None
    ending: Literal["done", "memory", "time", "failed"] = "done"
    accelerated: bool = False
    note: str = ""


@dataclass(frozen=True)
class Trial(_Rest):
    """What became of one size.

    Attributes:
        batch: images.
        rate: images a second; None where nothing could be measured.
        memory: bytes taken.
        capacity: bytes that there are.
        ending: ``done``, too little ``memory``, no ``time``, or ``failed`` for another reason.
        accelerated: whether it was on an accelerator, which has a memory to fill.
        note: for the table.
    """

    batch: int


def search(measure: Callable[[int], Trial], *, wanted: int, largest: int) -> list[Trial]:
    """Try 1, 2, 4, ... and ``wanted``; then, where memory ended that, halve the gap to the largest that fits.

    Without an accelerator it ends when twice doubling the batch gained nothing, because larger ones only take memory.

    Args:
        measure: tries one size.
        wanted: a size to try in any case, where it is not too large.
        largest: size to end with.

    Returns:
        In the order of their sizes.
    """
    trials: list[Trial] = []
    ladder = sorted({1 << power for power in range(largest.bit_length())} | {min(wanted, largest)})
    for size in ladder:
        trials.append(measure(size))
        if trials[-1].ending != "done" or _is_flat(trials, wanted):
            break
    last = trials[-1]
    if last.ending == "memory" and len(trials) > 1:
        trials = trials[:-1] + _between(measure, trials[-2].batch, last)
    return sorted(trials, key=lambda trial: trial.batch)


def _between(measure: Callable[[int], Trial], low: int, failed: Trial) -> list[Trial]:
    """Halve the gap between a size that fits and one that does not, down to an eighth of the former."""
    high, unit = failed.batch, max(1, low // 8)
    tried = [failed]
    while high - low > unit:
        trial = measure(low + max((high - low) // 2 // unit, 1) * unit)
        tried.append(trial)
        if trial.ending == "done":
            low = trial.batch
        elif trial.ending == "memory":
            high = trial.batch
        else:
            break
    return tried


def _is_flat(trials: Sequence[Trial], wanted: int) -> bool:
    """Whether the last two sizes, beyond the wanted one, were no faster than what came before."""
    if trials[-1].accelerated or trials[-1].batch < wanted or len(trials) < 3:
        return False
    rates = [trial.rate.median for trial in trials if trial.rate is not None]
    return max(rates[-2:]) < _GROWS * max(rates[:-2])


@dataclass(frozen=True)
class Advice:
    """What to take.

    Attributes:
        batch: images of a batch.
        accumulate: batches of an optimiser step.
        effective: images of an optimiser step, which are to stay what they are.
        largest: that fits; None where none was too large.
        fastest: size that is clearly faster than ``batch`` but larger than a step allows; None where there is none.
        gain: of that, as a factor.
    """

    batch: int
    accumulate: int
    effective: int
    largest: int | None
    fastest: int | None = None
    gain: float = 1.0

    def lines(self) -> list[str]:
        """Say it."""
        found = []
        if self.largest is not None:
            found.append(f"The largest batch that fits into 90 % of memory: {self.largest}.")
        found.append(f"Steps of {self.effective} images, as configured, are taken best with:")
        found.append(f"  --data.batch_size {self.batch} --trainer.accumulate_grad_batches {self.accumulate}")
        if self.fastest is not None:
            found.append(
                f"Batches of {self.fastest} are {self.gain - 1:.0%} faster".replace("%", " %")
                + f", but make steps larger: the learning rate has to be found anew (--effective {self.fastest})."
            )
        return found


def advise(trials: Sequence[Trial], *, effective: int) -> Advice:
    """Choose the largest of those sizes that are about as fast as the fastest, and that keep the optimiser step.

    Larger batches give norm layers better statistics; those that are no slower cost nothing but memory. About as fast
    is 5 % less, or what measurements of one size differ by.

    Args:
        trials: at least one of which was measured.
        effective: images of an optimiser step.
    """
    measured = [(trial.batch, trial.rate) for trial in trials if trial.rate is not None]
    whole = [(batch, rate) for batch, rate in measured if effective % batch == 0]
    best = max((rate for _, rate in whole), key=lambda rate: rate.median)
    batch, own = max(((batch, rate) for batch, rate in whole if _as_fast(rate, best)), key=lambda found: found[0])
    beyond = [
        (rate.median / own.median, other)
        for other, rate in measured
        if other > effective and rate.median > own.median * (1 + max(_FASTER, _noise(rate, own)))
    ]
    gain, fastest = max(beyond, default=(1.0, None))
    return Advice(
        batch,
        effective // batch,
        effective,
        max(batch for batch, _ in measured) if any(trial.ending == "memory" for trial in trials) else None,
        fastest,
        gain,
    )


def _as_fast(rate: Rate, best: Rate) -> bool:
    return rate.median >= best.median * (1 - max(_NEAR, _noise(rate, best)))


def _noise(*rates: Rate) -> float:
    """The largest spread, within reason; nobody knows that of a single measurement."""
    return max(_MOST_NOISE if rate.spread is None else min(rate.spread, _MOST_NOISE) for rate in rates)
