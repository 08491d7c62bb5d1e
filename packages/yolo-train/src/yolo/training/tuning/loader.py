"""``yolo tune loader``: how fast images are loaded, how fast the network takes them, and which of them waits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from yolo.cli.output import note, print_table
from yolo.core.errors import YoloError
from yolo.data.cache.resources import GB, available_memory
from yolo.data.workers import usable_workers
from yolo.training.trainer_cli import YOLOCLI, answer_old_options, make_cli
from yolo.training.tuning.clock import Rate
from yolo.training.tuning.isolated import run_isolated
from yolo.training.tuning.loading import Variant, compare_variants, loader_rate, worker_counts
from yolo.training.tuning.samples import first_keys, real_samples
from yolo.training.tuning.settings import (
    Pictures,
    TuneCLI,
    busy_machine,
    positive,
    step_job,
    write_json,
)
from yolo.training.tuning.stages import Stage, time_stages
from yolo.training.tuning.steps import StepFigures, StepJob, measure_steps
from yolo.training.tuning.verdict import Measured, Verdict, enough_workers, judge

_STAGED = 64  # samples, at most
_MOST_SECONDS = 300.0


class LoaderCLI(TuneCLI):
    """Parse the options of a training, and those of the command."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the command itself is told."""
        super().add_arguments_to_parser(parser)
        add = parser.add_argument
        add("--seconds", type=float, default=3.0, help="How long each measurement takes.")
        add("--json", type=str | None, default=None, metavar="FILE", help="Write the figures into a file as well.")


def run_loader(args: Sequence[str]) -> int:
    """Measure, print tables and a verdict, and return the exit code.

    Args:
        args: everything behind ``yolo tune loader``.

    Raises:
        UsageError: an option or a configuration key is wrong.
        YoloError: the data or the network does not work.
    """
    answer_old_options(args)
    cli = make_cli(
        args, LoaderCLI, command="tune loader", description="Measure loading and training, apart and together."
    )
    seconds = cli.config["seconds"]
    positive("seconds", seconds)
    busy = busy_machine()
    pictures = Pictures.open(cli.datamodule.config)
    config = pictures.config
    width, height = config.size
    print(
        f"{cli.model.config.model_config} at {width}x{height}, batches of {config.batch_size}, "
        f"{len(pictures.table):,} images of {config.root}",
        flush=True,
    )
    stages = _stages(pictures)
    variants = compare_variants(pictures, seconds=seconds)
    workers = usable_workers(config.num_workers)
    loaders = {}
    for count in worker_counts(_cores(), workers):
        loaders[count] = loader_rate(pictures, workers=count, seconds=seconds)
        note(f"loading with num_workers {count}: {loaders[count]} images/s")
    samples = tuple(real_samples(config, pictures.table, pictures.images))
    job = step_job(cli, samples=samples, class_names=tuple(pictures.table.class_names), seconds=seconds)
    model = _steps(job, "the network")
    note(f"the network: {model.rate} images/s")
    together = {}
    for count in {workers, enough_workers(loaders, model.rate.median if model.rate else 0.0)}:
        live = replace(job, live=(pictures.table, pictures.images), data=replace(job.data, num_workers=count))
        together[count] = _steps(live, "a training")
        note(f"together, num_workers {count}: {together[count].rate} images/s")
    found = Measured(workers, loaders, model, together, variants)
    verdict = judge(found)
    _show(found, stages, verdict, batch_size=config.batch_size, busy=busy)
    if cli.config["json"] is not None:
        write_json(cli.config["json"], _as_dict(cli, found, stages, verdict))
    return 0


def _stages(pictures: Pictures) -> list[Stage]:
    size = pictures.config.batch_size
    dataset, keys = first_keys(
        pictures.config, pictures.table, pictures.images, count=min(max(size, 16), _STAGED, len(pictures.table))
    )
    return time_stages(dataset, keys, batch_size=size)


def _steps(job: StepJob, what: str) -> StepFigures:
    available = available_memory()
    outcome = run_isolated(
        measure_steps,
        job,
        seconds=_MOST_SECONDS + 10 * job.seconds,
        memory=None if available is None else int(0.9 * available),
    )
    figures = outcome.value
    if isinstance(figures, StepFigures) and figures.rate is not None:
        return figures
    size = job.data.batch_size
    if outcome.ending == "memory" or isinstance(figures, StepFigures):
        raise YoloError(
            f"{what} runs out of memory with data.batch_size {size}: 'yolo tune batch-size' finds one that fits"
        )
    if outcome.ending == "time":
        raise YoloError(f"{what} takes too long with data.batch_size {size}: give a smaller one")
    raise YoloError(f"{what} does not work: {outcome.text}")


def _show(found: Measured, stages: list[Stage], verdict: Verdict, *, batch_size: int, busy: str | None) -> None:
    whole = sum(stage.seconds for stage in stages)
    print_table(
        ("Stage of a sample", "ms", "Processor ms", "Share", "Times"),
        [
            (
                stage.name,
                f"{stage.seconds * 1e3:.2f}",
                f"{stage.busy * 1e3:.2f}",
                _percent(stage.seconds / whole),
                f"{stage.calls:.1f}",
            )
            for stage in stages
        ],
    )
    print()
    print_table(
        ("One process", "Samples/s", "Spread", "Gain", ""),
        [
            (
                variant.name or "as configured",
                str(variant.rate),
                variant.rate.margin,
                f"{variant.rate.median / found.variants[0].rate.median:.2f}" if variant.name else "",
                _remark(variant),
            )
            for variant in found.variants
        ],
    )
    print()
    rows: list[tuple[str, Rate | None, str]] = [
        (f"loader, num_workers {count}", rate, "") for count, rate in found.loaders.items()
    ]
    model = found.model
    rows.append((f"network on {model.device}", model.rate, _memory(model)))
    if model.transfer is not None and model.rate is not None:
        step = batch_size / model.rate.median
        rows.append(
            (
                f"transfer to {model.device}",
                Rate(batch_size / model.transfer, None, 1),
                f"{_percent(model.transfer / step)} of a step",
            )
        )
    rows += [
        (f"together, num_workers {count}", figures.rate, f"waits {_percent(figures.waiting)} of the time")
        for count, figures in sorted(found.together.items())
    ]
    print_table(
        ("What", "Images/s", "Spread", ""),
        [(what, str(rate or "-"), rate.margin if rate else "-", remark) for what, rate, remark in rows],
    )
    print()
    if busy:
        print(busy)
    print(verdict.text)
    for option, reason in verdict.options:
        print(f"  {option}  ({reason})")
    if not verdict.options:
        print("  These settings are fine; none that was measured is clearly faster.")


def _remark(variant: Variant) -> str:
    return ", ".join(part for part in ("estimated" if variant.estimated else "", variant.price) if part)


def _memory(figures: StepFigures) -> str:
    return "" if figures.memory is None else f"{figures.memory / GB:.2f} GB of memory"


def _as_dict(cli: YOLOCLI, found: Measured, stages: list[Stage], verdict: Verdict) -> dict[str, Any]:
    data = cli.datamodule.config
    return {
        "model": cli.model.config.model_config,
        "image_size": list(data.size),
        "batch_size": data.batch_size,
        "cores": _cores(),
        "stages": [asdict(stage) for stage in stages],
        "variants": [asdict(variant) for variant in found.variants],
        "num_workers": found.workers,
        "loader": {str(count): asdict(rate) for count, rate in found.loaders.items()},
        "network": asdict(found.model),
        "together": {str(count): asdict(figures) for count, figures in found.together.items()},
        "verdict": {"slower": verdict.slower, "text": verdict.text, "options": dict(verdict.options)},
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
