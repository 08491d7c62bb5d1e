"""Where the time of a training sample goes: clocks around the public functions that make it, put there for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import torch

from yolo.data import collate as collating
from yolo.data.augment import ColourAugmentation, scene
from yolo.data.augment.pipeline import Chance, Pipeline
from yolo.data.dataset import TrainDataset
from yolo.data.sampler import SampleKey

Clock = Callable[[], float]


@dataclass(frozen=True)
class Stage:
    """One part of the work on a sample.

    Attributes:
        name: what is done.
        seconds: for each sample, on the clock on the wall.
        busy: of those, of the processor's.
        calls: for each sample.
    """

    name: str
    seconds: float
    busy: float
    calls: float


class StageTimer:
    """Adds up the time within functions, of one thread.

    What is clocked within something clocked counts for the inner one only.

    Args:
        names: of stages to tell of even when they never happen, in this order.
        clocks: on the wall, and of the processor.
    """

    def __init__(
        self, names: Sequence[str] = (), *, clocks: tuple[Clock, Clock] = (time.perf_counter, time.thread_time)
    ) -> None:
        self._clocks = clocks
        self._spent: dict[str, list[float]] = {name: [0.0, 0.0, 0] for name in names}
        self._inner: list[list[float]] = []

    @contextmanager
    def around(self, owner: Any, name: str, stage: str) -> Iterator[None]:
        """Clock a function of a module, a class or an object as long as the context lasts.

        Args:
            owner: that has it.
            name: of the attribute.
            stage: what it counts for.
        """
        own = vars(owner).get(name)
        function = getattr(owner, name)

        def clocked(*args: Any, **options: Any) -> Any:
            with self.stage(stage):
                return function(*args, **options)

        setattr(owner, name, clocked)
        try:
            yield
        finally:
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Clock what is done within the context."""
        spent = self._spent.setdefault(name, [0.0, 0.0, 0])
        start = [clock() for clock in self._clocks]
        self._inner.append([0.0, 0.0])
        try:
            yield
        finally:
            took = [clock() - begun for clock, begun in zip(self._clocks, start, strict=True)]
            within = self._inner.pop()
            for at in (0, 1):
                spent[at] += took[at] - within[at]
                if self._inner:
                    self._inner[-1][at] += took[at]
            spent[2] += 1

    def stages(self, samples: int) -> list[Stage]:
        """Return what was clocked, for each of a number of samples, first those with a place of their own."""
        return [
            Stage(name, wall / samples, busy / samples, calls / samples)
            for name, (wall, busy, calls) in self._spent.items()
        ]


REST = "the rest"


def time_stages(dataset: TrainDataset, keys: Sequence[SampleKey], *, batch_size: int) -> list[Stage]:
    """Make samples in this process, as a worker does, and return where their time went.

    Args:
        dataset: a fresh one; its functions are clocked meanwhile.
        keys: of the samples.
        batch_size: samples that are made together.

    Returns:
        The stages in the order of the work; last what none of them is (:data:`REST`).
    """
    pipeline = dataset.pipeline
    steps: list[Chance[Any]] = [*pipeline.mixes, *pipeline.samples, *pipeline.batches]
    kinds = dict.fromkeys(type(chance.what) for chance in steps)
    before = [_NAMES[name] for name in ("draw", "decode", "warp", "boxes")]
    timer = StageTimer([*before, *(kind.__name__ for kind in kinds), _NAMES["collate"]])
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(one_thread())
        enter(timer.around(Pipeline, "draw", _NAMES["draw"]))
        enter(timer.around(dataset.loader, "read", _NAMES["decode"]))
        enter(timer.around(scene, "paint", _NAMES["warp"]))
        enter(timer.around(scene, "visible_targets", _NAMES["boxes"]))
        for kind in kinds:
            # Colours are changed tile by tile, while they are drawn, or by "apply", which does the same to the whole.
            work = "recolour" if issubclass(kind, ColourAugmentation) else "apply"
            enter(timer.around(kind, work, kind.__name__))
        for batch in batches_of(keys, batch_size):
            with timer.stage(REST):
                samples = dataset.__getitems__(batch)
            with timer.stage(_NAMES["collate"]):
                collating.collate(samples)
    found = timer.stages(len(keys))
    return [*(stage for stage in found if stage.name != REST), *(stage for stage in found if stage.name == REST)]


_NAMES = {
    "draw": "draw random numbers",
    "decode": "read and decode",
    "warp": "warp into place",
    "boxes": "move boxes",
    "collate": "collate",
}
DECODE = _NAMES["decode"]


def batches_of(keys: Sequence[SampleKey], size: int) -> list[Sequence[SampleKey]]:
    """Cut keys into batches."""
    return [keys[start : start + size] for start in range(0, len(keys), size)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Work with a single thread, as worker processes do."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
