"""The order of training augmentations: layout and view in one warp, mixes, samples, batches.

First a :class:`Plan` is drawn, which holds every random number of a sample; then it is carried out. Both halves are
public, so that a test, or a viewer, can state or show what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from yolo.data.augment.affine import AffineParams, RandomPerspective, affine_matrix
from yolo.data.augment.base import (
    Augmentation,
    BatchAugmentation,
    ColourAugmentation,
    Context,
    Drawn,
    MixAugmentation,
    Pixels,
    Recolour,
)
from yolo.data.augment.letterbox import LetterBox
from yolo.data.augment.scene import Layout, Reader, Seen, look_at
from yolo.data.augment.streams import Streams
from yolo.data.augment.view import View
from yolo.data.types import Sample

Member = TypeVar("Member", bound=Drawn[Any])


@dataclass(frozen=True)
class Chance(Generic[Member]):
    """Something that happens with a probability."""

    what: Member
    p: float = 1.0


@dataclass(frozen=True)
class PicturePlan:
    """The drawn parameters of one picture: what is in it, and how it is looked at."""

    index: int
    layout: Layout[Any]
    arrangement: Any
    affine: AffineParams


@dataclass(frozen=True)
class Plan:
    """Everything random about one sample.

    Attributes:
        picture: its own picture.
        mixes: augmentations of the mix stage that happen, with their partners and parameters.
        steps: augmentations of the sample stage that happen, with their parameters.
    """

    picture: PicturePlan
    mixes: tuple[tuple[MixAugmentation[Any], tuple[PicturePlan, ...], Any], ...] = ()
    steps: tuple[tuple[Augmentation[Any], Any], ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A sample of which only the pixels are missing.

    Attributes:
        plan: what happens to it.
        picture: its own picture.
        partners: the pictures of each of the plan's mixes.
    """

    plan: Plan
    picture: Seen
    partners: tuple[tuple[Seen, ...], ...]


@dataclass(frozen=True)
class Pipeline:
    """What happens to a training sample, in this order.

    Attributes:
        size: width and height of every sample, pixels.
        affine: the random view of the scene; part of the one warp.
        layouts: tried one after the other; when none happens, the picture is a single one.
        mixes: combine finished pictures.
        samples: change one finished picture.
        batches: change all the pictures of a batch.
    """

    size: tuple[int, int]
    affine: RandomPerspective
    layouts: Sequence[Chance[Layout[Any]]] = ()
    mixes: Sequence[Chance[MixAugmentation[Any]]] = ()
    samples: Sequence[Chance[Augmentation[Any]]] = ()
    batches: Sequence[Chance[BatchAugmentation[Any]]] = ()
    single: Layout[Any] = field(default_factory=LetterBox)

    def draw(self, rng: np.random.Generator, context: Context, *, mix: bool) -> Plan:
        """Draw every random number of a sample.

        Each part draws from a stream of its own, so that to switch one on or off changes nothing about the others.

        Args:
            rng: the sample's own generator; numpy's default kind.
            context: the sample; its ``size`` is replaced by the pipeline's.
            mix: whether layouts of several pictures and mixes may happen (false in the closing epochs).
        """
        context = replace(context, size=self.size)
        streams = Streams(rng)
        layouts = [chance.what for chance in self.layouts if _happens(chance, streams.of(chance.what))] if mix else []
        layout = layouts[0] if layouts else self.single
        picture = self._draw_picture(streams.of(self), context, layout)
        mixes = []
        for chance in self.mixes if mix else ():
            wanted = chance.what.pictures in ("any", layout.kind)
            own = streams.of(chance.what)
            if _happens(chance, own) and wanted:
                params, indices = chance.what.draw(own, context), context.pick(own, chance.what.partners)
                partners = [self._draw_picture(own, replace(context, index=index), layout) for index in indices]
                mixes.append((chance.what, tuple(partners), params))
        steps = []
        for step in self.samples:
            own = streams.of(step.what)
            if _happens(step, own):
                steps.append((step.what, step.what.draw(own, context)))
        return Plan(picture, tuple(mixes), tuple(steps))

    def carry_out(self, plan: Plan, context: Context, reader: Reader) -> Sample:
        """Make the sample of a plan; nothing random happens here."""
        return self.make(self.prepare(plan, context, reader))

    def prepare(self, plan: Plan, context: Context, reader: Reader) -> Prepared:
        """Work out where everything of a sample goes: all but the pixels.

        Doing this for a whole batch, before pictures go through the processor's caches, takes a third of the time.
        """
        context = replace(context, size=self.size)
        partners = tuple(
            tuple(self._look_at(partner, context, reader) for partner in partners) for _, partners, _ in plan.mixes
        )
        return Prepared(plan, self._look_at(plan.picture, context, reader), partners)

    def make(self, prepared: Prepared) -> Sample:
        """Decode, draw, mix, change."""
        plan = prepared.plan
        colours = [] if plan.mixes else _colours_first(plan.steps)
        sample = prepared.picture.draw(_recolour(colours))
        for (mix, _, params), partners in zip(plan.mixes, prepared.partners, strict=True):
            sample = mix.apply(sample, [partner.draw() for partner in partners], params)
        for augmentation, params in plan.steps[len(colours) :]:
            sample = augmentation.apply(sample, params)
        return sample

    def finish(self, samples: Sequence[Sample], rng: np.random.Generator, context: Context) -> list[Sample]:
        """Run the batch stage."""
        context = replace(context, size=self.size)
        done = list(samples)
        for chance in self.batches:
            if _happens(chance, rng):
                done = chance.what(done, rng, context)
        return done

    def _draw_picture(self, rng: np.random.Generator, context: Context, layout: Layout[Any]) -> PicturePlan:
        affine = self.affine.draw(rng, context)
        arrangement = layout.draw(rng, context)
        return PicturePlan(context.index, layout, arrangement, affine if layout.moved else AffineParams())

    def _look_at(self, plan: PicturePlan, context: Context, reader: Reader) -> Seen:
        matrix = affine_matrix(plan.affine, plan.layout.scene_size(self.size), self.size)
        view = View(matrix, self.size, whole_pixels=plan.layout.moved)
        scene = plan.layout.arrange(plan.arrangement, replace(context, index=plan.index), reader, view)
        return look_at(scene, view, plan.index)


def _colours_first(steps: Sequence[tuple[Augmentation[Any], Any]]) -> list[tuple[ColourAugmentation[Any], Any]]:
    """The steps before the first that does more than change colours."""
    colours = []
    for augmentation, params in steps:
        if not isinstance(augmentation, ColourAugmentation):
            break
        colours.append((augmentation, params))
    return colours


def _recolour(steps: Sequence[tuple[ColourAugmentation[Any], Any]]) -> Recolour | None:
    """What several changes of colours do, one after the other."""
    if not steps:
        return None

    def recolour(pixels: Pixels, out: Pixels) -> None:
        for augmentation, params in steps:
            augmentation.recolour(pixels, params, out)
            pixels = out

    return recolour


def _happens(chance: Chance[Any], rng: np.random.Generator) -> bool:
    """Toss a coin; always one number is taken, so that a probability does not change what is drawn after it."""
    return bool(rng.random() < chance.p)
