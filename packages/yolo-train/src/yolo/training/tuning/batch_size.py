"""``yolo tune batch-size``: how fast a network trains with batches of several sizes, and what memory they take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from lightning.pytorch.cli import LightningArgumentParser

from yolo.cli.output import note, print_table
from yolo.core.errors import YoloError
from yolo.data.cache.resources import GB, available_memory
from yolo.training.module import YOLOModule
from yolo.training.trainer_cli import YOLOCLI, answer_old_options, make_cli
from yolo.training.tuning.isolated import Outcome, run_isolated
from yolo.training.tuning.samples import drawn_samples, real_samples
from yolo.training.tuning.settings import (
    Pictures,
    TuneCLI,
    busy_machine,
    positive,
    step_job,
    write_json,
)
from yolo.training.tuning.sizes import Advice, Trial, advise, search
from yolo.training.tuning.steps import StepFigures, StepJob, measure_steps

_SHARE = 0.9
_CLASSES = 80
_MOST = 1024


class BatchSizeCLI(TuneCLI):
    """Parse the options of a training, and those of the command."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the command itself is told."""
        super().add_arguments_to_parser(parser)
        add = parser.add_argument
        add("--seconds", type=float, default=3.0, help="How long to measure each size.")
        add("--limit", type=float, default=300.0, help="Seconds after which no further size is begun.")
        add(
            "--effective",
            type=int | None,
            default=None,
            help="Images of an optimiser step to keep (default: data.batch_size x trainer.accumulate_grad_batches).",
        )
        add("--largest", type=int | None, default=None, help="Largest batch to try (default: the images there are).")
        add("--boxes", type=int | None, default=None, help="Draw noise with so many boxes an image; read no data.")
        add("--json", type=str | None, default=None, metavar="FILE", help="Write the figures into a file as well.")


def run_batch_size(args: Sequence[str]) -> int:
    """Measure, print a table and a suggestion, and return the exit code.

    Args:
        args: everything behind ``yolo tune batch-size``.

    Raises:
        UsageError: an option or a configuration key is wrong.
        YoloError: not even one image fits, or the network does not work with these settings.
    """
    answer_old_options(args)
    cli = make_cli(
        args, BatchSizeCLI, command="tune batch-size", description="Measure training steps with growing batches."
    )
    given = cli.config
    effective = given["effective"] or cli.datamodule.config.batch_size * given.trainer.accumulate_grad_batches
    for name in ("seconds", "limit", "effective", "largest", "boxes"):
        if given[name] is not None:
            positive(name, given[name])
    job, images, what = _job(cli)
    largest = given["largest"] or min(images, _MOST)
    name = job.model["model_config"]
    width, height = cli.datamodule.image_size
    busy = busy_machine()
    precision = str(given.trainer.precision or "32-true")
    print(f"{name} at {width}x{height}, {precision}, {what}", flush=True)
    begin = _Sizes(job, seconds=given["seconds"], limit=given["limit"])
    trials = search(begin.measure, wanted=effective, largest=max(largest, 1))
    advice = advise(trials, effective=effective)
    _show(trials, advice, busy=busy)
    if given["json"] is not None:
        content = {"model": name, "image_size": [width, height], "precision": precision}
        content |= {"device": begin.device, "trials": [asdict(trial) for trial in trials], "advice": asdict(advice)}
        write_json(given["json"], content)
    return 0


def _job(cli: YOLOCLI) -> tuple[StepJob, int, str]:
    """The job, how many images there are, and what they are."""
    boxes = cli.config["boxes"]
    data = cli.datamodule.config
    if boxes is None:
        pictures = Pictures.open(data)
        data = pictures.config
        samples = real_samples(data, pictures.table, pictures.images)
        images, names = len(pictures.table), tuple(pictures.table.class_names)
        what = f"{len(samples)} samples of {data.root}"
    else:
        assert isinstance(cli.model, YOLOModule)
        names = tuple(map(str, range(cli.model.config.num_classes or data.num_classes or _CLASSES)))
        samples, images = drawn_samples(data.size, boxes=boxes, classes=len(names)), _MOST
        what = f"noise with {boxes} boxes an image"
    return step_job(cli, samples=tuple(samples), class_names=names, seconds=cli.config["seconds"]), images, what


class _Sizes:
    """Measures one size after the other, as long as there is time.

    Args:
        job: of which only the size of the batch changes.
        seconds: for each size.
        limit: seconds for all of them.
    """

    def __init__(self, job: StepJob, *, seconds: float, limit: float) -> None:
        self.job = job
        self.seconds = seconds
        self.end = time.monotonic() + limit
        self.took = 0.0
        self.device = ""

    def measure(self, size: int) -> Trial:
        """Measure one."""
        start = time.monotonic()
        if start + self.took > self.end:
            return Trial(size, ending="time", note="not tried: --limit is reached")
        available = available_memory()
        job = replace(self.job, data=replace(self.job.data, batch_size=size), share=_SHARE)
        memory = None if available is None else int(available * _SHARE)
        # The first size is given the time that it needs: without it there is nothing to say.
        seconds = max(self.end - start, 0) if self.took else max(self.end - start, 600.0)
        outcome = run_isolated(measure_steps, job, seconds=seconds, memory=memory)
        self.took = time.monotonic() - start
        trial = self._trial(size, outcome, available)
        note(f"batch {size}: {'-' if trial.rate is None else trial.rate} images/s {trial.note}".rstrip())
        return trial

    def _trial(self, size: int, outcome: Outcome, available: int | None) -> Trial:
        figures = outcome.value
        if outcome.ending == "error" and outcome.expected:
            raise YoloError(outcome.text)
        if not isinstance(figures, StepFigures):
            text = {
                "memory": f"more than {_SHARE:.0%} of memory".replace("%", " %"),
                "time": "stopped: --limit is reached",
            }
            if size == 1:
                raise YoloError(f"a batch of 1 image does not work: {text.get(outcome.ending) or outcome.text}")
            known = outcome.ending if outcome.ending in ("time", "memory") else "failed"
            return Trial(size, ending=known, note=text.get(outcome.ending) or outcome.text)
        self.device = figures.device
        accelerated = figures.device != "cpu"
        if figures.rate is None:
            if size == 1:
                raise YoloError(
                    "a batch of 1 image does not fit into memory: lower data.image_size, or take a smaller network"
                )
            return Trial(size, ending="memory", accelerated=accelerated, note="out of memory")
        return Trial(
            size,
            rate=figures.rate,
            memory=figures.memory,
            capacity=figures.capacity or available,
            accelerated=accelerated,
            note=f"the allocator had to retry {figures.retries} times" if figures.retries else "",
        )


def _show(trials: list[Trial], advice: Advice, *, busy: str | None) -> None:
    rows = []
    for trial in trials:
        rate = trial.rate
        memory = "-" if trial.memory is None else f"{trial.memory / GB:.2f} GB"
        if trial.memory is not None and trial.capacity:
            memory += f" ({trial.memory / trial.capacity:.0%})".replace("%", " %")
        step = "-" if rate is None else f"{1000 * trial.batch / rate.median:.0f}"
        speed = ("-", "-") if rate is None else (str(rate), rate.margin)
        rows.append((trial.batch, *speed, step, memory, trial.note))
    print_table(("Batch", "Images/s", "Spread", "ms a step", "Memory", "Note"), rows)
    if busy:
        print(busy)
    print("\n".join(advice.lines()))
