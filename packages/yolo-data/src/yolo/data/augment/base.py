"""The bases of every augmentation: random parameters are drawn apart from being applied.

An augmentation has two halves. ``draw`` takes a random generator and returns parameters (a frozen dataclass of plain
numbers); ``apply`` is a pure function of what it is given and those parameters. So a sample is a function of
(seed, epoch, index) alone, whatever the number of workers, and a test can state the parameters.

Which base to take depends on what the augmentation looks at:

=========================== ======= =============================================================
:class:`Augmentation`       sample  one finished picture (rain, blur, erasing)
:class:`ColourAugmentation` sample  single pixels (brightness, grey, other colours)
:class:`MixAugmentation`    mix     a picture and other training pictures (MixUp, copy-paste)
:class:`BatchAugmentation`  batch   all pictures of a batch
=========================== ======= =============================================================

Mosaics arrange several *files* before anything is warped; they are layouts, see :mod:`yolo.data.augment.scene`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from yolo.data.types import Sample

Pixels = NDArray[np.uint8]
#: Write the changed colours of the first picture to the second, which may be the same: a drawn ``recolour``.
Recolour = Callable[[Pixels, Pixels], None]

Params = TypeVar("Params")
Stage = Literal["mix", "sample", "batch"]


@dataclass(frozen=True)
class Context:
    """What ``draw`` may know besides its generator.

    Attributes:
        size: width and height of the finished sample, pixels.
        epoch: counted from 0.
        index: data set index of the sample (of the first one for a batch).
        count: number of images in the data set.
        pool: data set indices that other pictures are to be taken from; empty for all of them.
    """

    size: tuple[int, int]
    epoch: int = 0
    index: int = 0
    count: int = 1
    pool: tuple[int, ...] = ()

    def pick(self, rng: np.random.Generator, number: int) -> tuple[int, ...]:
        """Draw data set indices of other pictures; one may come twice, or be the sample's own."""
        chosen = rng.integers(len(self.pool) or self.count, size=number).tolist()
        return tuple(self.pool[index] for index in chosen) if self.pool else tuple(chosen)


class Drawn(ABC, Generic[Params]):
    """Something with random parameters. Instances are picklable and keep no state between samples."""

    stage: ClassVar[Stage]

    @abstractmethod
    def draw(self, rng: np.random.Generator, context: Context) -> Params:
        """Draw the parameters of one application.

        Args:
            rng: the only source of randomness that may be used.
            context: facts about the sample to come.

        Returns:
            A frozen dataclass (or another immutable value) that :meth:`apply` gets.
        """


class Augmentation(Drawn[Params]):
    """Changes one finished sample.

    Example::

        @dataclass(frozen=True)
        class Level:
            gain: float

        class Dim(Augmentation[Level]):
            def __init__(self, strength: float = 0.5) -> None:
                self.strength = strength

            def draw(self, rng, context):
                return Level(1 - self.strength * rng.random())

            def apply(self, sample, params):
                return replace(sample, image=cv2.convertScaleAbs(sample.image, alpha=params.gain))
    """

    stage: ClassVar[Stage] = "sample"

    @abstractmethod
    def apply(self, sample: Sample, params: Params) -> Sample:
        """Return the changed sample.

        The given sample is not written to. The image stays uint8 ``[H, W, 3]`` RGB of the same shape, boxes stay
        inside it, and whatever moves pixels also multiplies ``sample.matrix`` (source to canvas) from the left.
        """

    def __call__(self, sample: Sample, rng: np.random.Generator, context: Context) -> Sample:
        """Draw and apply."""
        return self.apply(sample, self.draw(rng, context))


class ColourAugmentation(Augmentation[Params]):
    """Changes every pixel by its own colour alone, whatever lies around it.

    So it makes no difference whether a picture is enlarged before or after it, and one pixel of a grey border stands
    for all of them: the pipeline does it where there are fewest pixels. Boxes must not depend on it.
    """

    @abstractmethod
    def recolour(self, pixels: Pixels, params: Params, out: Pixels) -> None:
        """Write the changed pixels to ``out``, which may be ``pixels`` itself; both uint8 ``[H, W, 3]`` RGB."""

    def apply(self, sample: Sample, params: Params) -> Sample:
        """Change the whole picture."""
        image = np.empty_like(sample.image)
        self.recolour(sample.image, params, image)
        return replace(sample, image=image)


class MixAugmentation(Drawn[Params]):
    """Combines a sample with :attr:`partners` others, each of which is a finished picture of its own.

    It runs only while mixing is on (see ``close_mosaic_epochs``).
    """

    stage: ClassVar[Stage] = "mix"
    #: How many other pictures it takes.
    partners: ClassVar[int] = 1
    #: Which pictures it is meant for: any, only mosaics (as MixUp), or only single ones (as CutMix).
    pictures: ClassVar[Literal["any", "mosaic", "single"]] = "any"

    @abstractmethod
    def apply(self, sample: Sample, others: Sequence[Sample], params: Params) -> Sample:
        """Return the combination; ``others`` holds :attr:`partners` samples of the same size, drawn at random."""

    def __call__(self, sample: Sample, others: Sequence[Sample], rng: np.random.Generator, context: Context) -> Sample:
        """Draw and apply."""
        return self.apply(sample, others, self.draw(rng, context))


class BatchAugmentation(Drawn[Params]):
    """Changes the samples of one batch together, just before they are collated."""

    stage: ClassVar[Stage] = "batch"

    @abstractmethod
    def apply(self, samples: Sequence[Sample], params: Params) -> list[Sample]:
        """Return as many samples, of the same size."""

    def __call__(self, samples: Sequence[Sample], rng: np.random.Generator, context: Context) -> list[Sample]:
        """Draw and apply."""
        return self.apply(samples, self.draw(rng, context))
