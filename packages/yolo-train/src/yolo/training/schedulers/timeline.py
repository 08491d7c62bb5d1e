"""From optimiser steps to epochs and to the share of the training that is done, across changes of its length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from yolo.training.schedulers.length import TrainingLength


@dataclass(frozen=True)
class Leg:
    """A part of a training in which its length does not change.

    Args:
        step: optimiser step at which it begins.
        epoch: epochs done by then.
        progress: share of the schedule done by then, 0..1.
        steps_per_epoch: optimiser steps in an epoch.
        end: step at which the training is to end.
    """

    step: int
    epoch: float
    progress: float
    steps_per_epoch: int
    end: int


@dataclass(frozen=True)
class Timeline:
    """The legs of a training in order; a run that was never resumed with another length has one.

    Where a step lies depends on nothing but the legs, which are saved, so a resumed run reckons as the one it resumes.
    """

    legs: tuple[Leg, ...]

    @classmethod
    def begin(cls, length: TrainingLength) -> Timeline:
        """Return the timeline of a new training."""
        return cls((Leg(0, 0.0, 0.0, length.steps_per_epoch, length.end()),))

    @property
    def end(self) -> int:
        """The step at which the training ends."""
        return self.legs[-1].end

    def epoch_at(self, step: int) -> float:
        """Return the epochs that are done after so many steps."""
        leg = self._leg(step)
        return leg.epoch + (step - leg.step) / leg.steps_per_epoch

    def progress_at(self, step: int) -> float:
        """Return the share of the schedule (0..1) that is done after so many steps."""
        leg = self._leg(step)
        if step >= leg.end:
            return 1.0 if leg.end > leg.step else leg.progress
        return leg.progress + (1 - leg.progress) * ((step - leg.step) / (leg.end - leg.step))

    def resumed(self, step: int, length: TrainingLength, *, stretch: bool = False) -> Timeline:
        """Return the timeline of a training that goes on at ``step`` with a length that may be another one.

        With the same length it is this one. Otherwise a leg is added, which begins where the schedule stands (so the
        rate does not jump) and runs through the rest of the schedule until the new end.

        Args:
            step: where it goes on.
            length: of the training that goes on.
            stretch: begin the leg where the schedule would stand if the training had always had this length.
        """
        last = self.legs[-1]
        if last.steps_per_epoch == length.steps_per_epoch and last.end == length.end(last.step, last.epoch):
            return self
        if step == 0:
            return Timeline.begin(length)
        epoch = self.epoch_at(step)
        end = length.end(step, epoch)
        progress = _share(step, epoch, end, length) if stretch else self.progress_at(step)
        kept = tuple(leg for leg in self.legs if leg.step < step)
        return Timeline((*kept, Leg(step, epoch, progress, length.steps_per_epoch, end)))

    def as_lists(self) -> list[list[float]]:
        """Return plain numbers, to be saved."""
        return [list(astuple(leg)) for leg in self.legs]

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[float]]) -> Timeline:
        """Read what :meth:`as_lists` returned."""
        return cls(tuple(Leg(int(row[0]), float(row[1]), float(row[2]), int(row[3]), int(row[4])) for row in rows))

    def _leg(self, step: int) -> Leg:
        return next((leg for leg in reversed(self.legs) if leg.step <= step), self.legs[0])


def _share(step: int, epoch: float, end: int, length: TrainingLength) -> float:
    """Return the share of a whole training of this length that is done."""
    left = (end - step) / length.steps_per_epoch
    return epoch / (epoch + left) if epoch + left > 0 else 1.0
