"""A course as a picture, and its key numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from yolo.core.errors import UsageError
from yolo.core.files import write_atomically
from yolo.training.schedulers.course import Course

FORMATS = ("png", "pdf", "svg", "jpg")
_POINTS = 4000


@dataclass(frozen=True)
class KeyStep:
    """A step worth knowing.

    Args:
        what: why.
        step: counted from 0.
        epoch: epochs done.
        rate: of weights and norms.
        bias_rate: of biases.
        momentum: of SGD; None for AdamW.
    """

    what: str
    step: int
    epoch: float
    rate: float
    bias_rate: float
    momentum: float | None


def key_steps(course: Course) -> list[KeyStep]:
    """Return the numbers of a course at its start, after the warm-up, on the way, and at its last step."""
    last = max(course.timeline.end - 1, 0)
    named = {0: "first step", last: "last step"}
    named |= {leg.step: "resumed" for leg in course.timeline.legs[1:]}
    if course.warmup_steps > 0:
        named.setdefault(course.warmup_steps, "warm-up done")
    for share in (25, 50, 75):
        named.setdefault(course.timeline.end * share // 100, f"{share} %")
    peak = max(sampled_steps(course), key=course.rate_at)
    named.setdefault(peak, "highest rate")
    return [_key_step(course, named[step], step) for step in sorted(named)]


def sampled_steps(course: Course) -> list[int]:
    """Return the steps that are drawn: all, or a few thousand of them and those where something begins."""
    end = max(course.timeline.end, 1)
    stride = max(end // _POINTS, 1)
    corners = {step for leg in course.timeline.legs for step in (leg.step - 1, leg.step)}
    corners |= {course.warmup_steps - 1, course.warmup_steps, end - 1}
    return sorted({*range(0, end, stride), *(step for step in corners if 0 <= step < end)})


def draw_course(course: Course, path: Path, *, title: str) -> None:
    """Draw rate, bias rate and momentum over the optimiser steps.

    Args:
        course: what is drawn.
        path: a file that ends with one of ``FORMATS``, replaced atomically.
        title: above the picture.

    Raises:
        UsageError: the suffix is another one.
    """
    check_suffix(path)
    from matplotlib.figure import Figure

    steps = sampled_steps(course)
    sgd = course.config.optimizer == "sgd"
    curves = {
        "learning rate": [course.rate_at(step) for step in steps],
        "learning rate of biases": [course.rate_at(step, "bias") for step in steps],
        "momentum": [course.momentum_at(step) for step in steps] if sgd else [],
    }
    curves = {name: values for name, values in curves.items() if values}
    figure = Figure(figsize=(9, 2.6 * len(curves)), dpi=100, layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(curves), 1, sharex=True)
    for axes, (name, values) in zip(panels, curves.items(), strict=True):
        axes.plot(steps, values, linewidth=1.5)
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0 if name != "momentum" else None)
        axes.grid(alpha=0.3)
        if course.warmup_steps:
            axes.axvspan(0, course.warmup_steps, alpha=0.12, color="tab:orange", label="warm-up", linewidth=0)
        for number, leg in enumerate(course.timeline.legs[1:]):
            axes.axvline(leg.step, color="tab:red", linestyle=":", label=None if number else "resumed, other length")
    if course.warmup_steps or len(course.timeline.legs) > 1:
        panels[0].legend(frameon=False)
    panels[-1].set_xlabel(f"optimiser step ({course.timeline.legs[-1].steps_per_epoch:,} an epoch)")
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix.removeprefix(".").lower())
    write_atomically(path, data.getvalue())


def check_suffix(path: Path) -> None:
    """Raise UsageError for a file whose name does not end as a picture's."""
    if path.suffix.removeprefix(".").lower() not in FORMATS:
        raise UsageError(f"--output {path}: the name has to end with {', '.join(f'.{name}' for name in FORMATS)}")


def _key_step(course: Course, what: str, step: int) -> KeyStep:
    momentum = course.momentum_at(step) if course.config.optimizer == "sgd" else None
    epoch = course.timeline.epoch_at(step)
    return KeyStep(what, step, epoch, course.rate_at(step), course.rate_at(step, "bias"), momentum)
