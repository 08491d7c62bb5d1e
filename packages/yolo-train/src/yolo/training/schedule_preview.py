"""``yolo lr-plot``: the schedule that a configuration of ``yolo fit`` would give, without a trainer or a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from yolo.cli.output import print_table
from yolo.core.errors import UsageError, YoloError
from yolo.training.datamodule import YOLODataModule
from yolo.training.module import YOLOModule
from yolo.training.schedulers import Course, TrainingLength, plan_course
from yolo.training.schedulers.course import schedule_name
from yolo.training.schedulers.length import optimizer_steps
from yolo.training.schedulers.plot import check_suffix, draw_course, key_steps
from yolo.training.trainer_cli import YOLOCLI, answer_old_options, make_cli


class SettingsCLI(YOLOCLI):
    """Parse the options of a training, and build module and data alone."""

    def _set_seed(self) -> None:
        """Draw no number at random, and so say nothing of a seed."""

    def instantiate_classes(self) -> None:
        """Make neither trainer nor callbacks: the machine may be another one than that of the training."""
        settings = self.config.clone()
        settings.trainer.logger = False
        settings.trainer.callbacks = None
        settings.trainer.plugins = None
        made = self.parser.instantiate(settings)
        self.model, self.datamodule = made.model, made.data


class PreviewCLI(SettingsCLI):
    """Parse the options of a training, and those of the command."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the command itself is told."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("-o", "--output", type=str, default="lr.png", help="Picture to write.")
        parser.add_argument(
            "--steps-per-epoch", type=int | None, default=None, help="Optimiser steps an epoch; no data is read then."
        )


def run_preview(args: Sequence[str]) -> int:
    """Draw the schedule of a configuration, print its key numbers, and return the exit code.

    Args:
        args: everything behind ``yolo lr-plot``.

    Raises:
        UsageError: an option or a configuration key is wrong, or the data is not here.
    """
    answer_old_options(args)
    cli = make_cli(args, PreviewCLI, command="lr-plot", description="Draw the schedule that a configuration gives.")
    output = Path(cli.config["output"])
    check_suffix(output)
    assert isinstance(cli.model, YOLOModule)
    config, trainer = cli.model.config, cli.config.trainer
    per_epoch, words = _steps_per_epoch(cli.config, cli.datamodule)
    length = TrainingLength(steps_per_epoch=per_epoch, max_epochs=trainer.max_epochs, max_steps=trainer.max_steps)
    course = _resumed(plan_course(config, length), length, cli.config.ckpt_path)
    epochs = course.timeline.epoch_at(course.timeline.end)
    title = f"{schedule_name(config)}, {config.optimizer}, learning rate {config.learning_rate:g}"
    print(f"{title}: {course.timeline.end:,} optimiser steps in {epochs:g} epochs")
    print(f"{per_epoch:,} steps an epoch ({words}), {course.warmup_steps:,} of warm-up")
    print_table(
        ("", "Step", "Epoch", "Rate", "Bias rate", "Momentum"),
        [
            (
                row.what,
                f"{row.step:,}",
                f"{row.epoch:.2f}",
                f"{row.rate:.6g}",
                f"{row.bias_rate:.6g}",
                "-" if row.momentum is None else f"{row.momentum:.4g}",
            )
            for row in key_steps(course)
        ],
    )
    draw_course(course, output, title=title)
    print(f"Written: {output}")
    return 0


def _steps_per_epoch(config: Namespace, data: YOLODataModule) -> tuple[int, str]:
    given = config["steps_per_epoch"]
    if given is not None:
        if given < 1:
            raise UsageError(f"--steps-per-epoch {given}: it has to be at least 1")
        return given, "as given"
    trainer = config.trainer
    processes = _processes(trainer)
    accumulate = trainer.accumulate_grad_batches
    try:
        images = len(data.labels("train"))
    except YoloError as error:
        raise UsageError(f"{error}; without the data, give --steps-per-epoch") from error
    steps = optimizer_steps(
        images,
        batch_size=data.config.batch_size,
        processes=processes,
        limit=trainer.overfit_batches or trainer.limit_train_batches,
        accumulate=accumulate,
    )
    words = f"{images:,} images, batch size {data.config.batch_size}"
    words += f", {processes} processes" if processes > 1 else ""
    return steps, words + (f", accumulation over {accumulate} batches" if accumulate > 1 else "")


def _processes(trainer: Namespace) -> int:
    """Return how many processes share the images: those that are asked for, or that this machine would start."""
    devices: Any = trainer.devices
    if isinstance(devices, list):
        count = len(devices)
    elif str(devices) in ("auto", "-1"):
        count = max(torch.cuda.device_count(), 1) if trainer.accelerator in ("auto", "gpu", "cuda") else 1
    else:
        count = len([part for part in devices.split(",") if part]) if "," in str(devices) else int(devices)
    return count * int(trainer.num_nodes)


def _resumed(course: Course, length: TrainingLength, checkpoint: str | None) -> Course:
    """Return the course of the run that ``--ckpt_path`` would go on with."""
    if checkpoint is None:
        return course
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    states = content.get("lr_schedulers") or []
    if not states:
        raise UsageError(f"--ckpt_path {checkpoint}: there is no schedule in this file, so no run can go on from it")
    return course.resumed(int(states[0]["last_epoch"]), length, states[0])
