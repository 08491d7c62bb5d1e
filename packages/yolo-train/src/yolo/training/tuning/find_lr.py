"""``yolo fit --find-lr``: a learning-rate range test (Smith, arXiv:1506.01186) instead of a training.

Lightning's ``Tuner.lr_find`` is not used: it writes a checkpoint and a run folder, looks at one batch of those that
make a step, corrects its running mean by one step too many, which hides all but the largest changes, and looks for the
steepest slope over the rate and not over its logarithm.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer

from yolo.cli.output import track
from yolo.core.errors import UsageError, YoloError
from yolo.data.types import Batch
from yolo.training.memory import memory_hints
from yolo.training.processes import ending_together, one_voice
from yolo.training.schedulers.plot import check_suffix
from yolo.training.trainer_cli import YOLOCLI, answer_old_options, make_cli
from yolo.training.trainer_options import naming_the_option
from yolo.training.tuning.lr_curve import (
    DIVERGED,
    Point,
    Smoother,
    draw_points,
    ramp,
    read_curve,
    rounded,
    write_points,
)
from yolo.training.tuning.settings import refuse_resume

_FEWEST = 10


class RangeTest(Callback):
    """Take every optimiser step with the next of growing rates, and stop when the loss runs away.

    All groups of parameters get the same rate, and the momentum that they have after the warm-up.

    Args:
        rates: of the steps.
        momentum: of SGD.
    """

    def __init__(self, rates: Sequence[float], *, momentum: float) -> None:
        self.rates = rates
        self.momentum = momentum
        self.points: list[Point] = []
        self.diverged = False
        self._smoother = Smoother()
        self._lowest = math.inf
        self._sum = self._count = 0.0
        self._last_step = 0
        self._progress: Iterator[int] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show how far it is."""
        if trainer.is_global_zero:
            self._progress = track(range(len(self.rates)), "Learning rates", total=len(self.rates))
            next(self._progress)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Set the rate of the step, whatever the schedule wanted."""
        rate = self.rates[min(trainer.global_step, len(self.rates) - 1)]
        for group in optimizer.param_groups:
            group["lr"] = rate
            if "momentum" in group:
                group["momentum"] = self.momentum

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note the loss of the step when its last batch is done; all processes come to the same."""
        # Lightning has divided it by the batches of a step, and the module has multiplied it with the processes.
        share = trainer.accumulate_grad_batches / trainer.world_size
        loss = torch.as_tensor(outputs["loss"]).detach().float() * share
        self._sum += float(trainer.strategy.reduce(loss, reduce_op="sum"))
        self._count += len(batch.images) * trainer.world_size
        if trainer.global_step == self._last_step:
            return
        mean, step = self._sum / self._count, self._last_step
        self._last_step, self._sum, self._count = trainer.global_step, 0.0, 0.0
        if not math.isfinite(mean):
            self._end(trainer)
            return
        self.points.append(Point(step, self.rates[step], mean))
        running = self._smoother.add(mean)
        self._lowest = min(self._lowest, running)
        if running > DIVERGED * self._lowest:
            self._end(trainer)
        elif self._progress is not None:
            next(self._progress, None)

    def _end(self, trainer: Trainer) -> None:
        self.diverged = trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the progress away."""
        if isinstance(self._progress, Generator):
            self._progress.close()


class FindLRCLI(YOLOCLI):
    """Parse the options of a training, and build it for a few steps with a range test in it."""

    test: RangeTest

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the test itself is told."""
        super().add_arguments_to_parser(parser)
        add = parser.add_argument
        add("--find-lr", action="store_true", help="Look for a learning rate; train nothing else.")
        add("--find-lr-min", type=float, default=1e-5, help="First rate.")
        add("--find-lr-max", type=float, default=1.0, help="Last rate, if the loss does not run away before.")
        add("--find-lr-steps", type=int, default=100, help="Optimiser steps from the first to the last rate.")
        add("-o", "--output", type=str, default="lr-find.png", help="Picture to write, with a .csv beside it.")

    def before_instantiate_classes(self) -> None:
        """Leave out of the trainer whatever would write, validate or end it."""
        refuse_resume(self.config)
        low, high, steps = (self.config[f"find_lr_{name}"] for name in ("min", "max", "steps"))
        if not 0 < low < high < math.inf:
            raise UsageError(
                f"--find-lr-min {low:g} --find-lr-max {high:g}: the first has to be above 0 and below the last"
            )
        if steps < _FEWEST:
            raise UsageError(f"--find-lr-steps {steps}: it takes {_FEWEST} or more to see anything")
        check_suffix(Path(self.config["output"]))
        super().before_instantiate_classes()
        self.test = RangeTest(ramp(low, high, steps), momentum=self.config.model.momentum)
        trainer = self.config.trainer
        trainer.callbacks = None
        trainer.logger = trainer.enable_checkpointing = trainer.enable_progress_bar = False
        trainer.limit_val_batches = trainer.num_sanity_val_steps = 0
        trainer.max_epochs, trainer.max_steps = -1, steps
        trainer.min_epochs = trainer.min_steps = trainer.max_time = None
        trainer.fast_dev_run = False

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        with naming_the_option(config):
            return self.trainer_class(**{**config, "callbacks": [self.test]})


def run_find_lr(args: Sequence[str]) -> int:
    """Test rates, write the curve, print a suggestion, and return the exit code.

    Args:
        args: everything behind ``yolo fit``.

    Raises:
        UsageError: an option or a configuration key is wrong.
        YoloError: the loss did not fall at any rate, or ran away at once.
    """
    with one_voice():
        answer_old_options(args)
        cli = make_cli(
            args,
            FindLRCLI,
            command="fit --find-lr",
            description="Take steps with growing learning rates, and suggest one. Nothing is trained or kept.",
        )
    assert isinstance(cli, FindLRCLI)
    try:
        with ending_together(cli.trainer), memory_hints(cli.trainer, cli.datamodule):
            cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    except SystemExit:  # Lightning's answer to Ctrl-C, with code 1
        if cli.trainer.interrupted:
            return 128 + signal.SIGINT
        raise
    if cli.trainer.is_global_zero:
        _tell(cli)
    return 0


def _tell(cli: FindLRCLI) -> None:
    points, config = cli.test.points, cli.model.config
    if len(points) < _FEWEST:
        raise YoloError(
            f"the loss ran away after {len(points)} steps, too early to say anything: give a lower --find-lr-min "
            f"(now {cli.config['find_lr_min']:g})"
        )
    reading = read_curve(points, diverged=cli.test.diverged)
    output = Path(cli.config["output"])
    size = cli.datamodule.config.batch_size * cli.config.trainer.accumulate_grad_batches * cli.trainer.world_size
    width, height = cli.datamodule.image_size
    title = f"{config.model_config} at {width}x{height}, {config.optimizer}, steps of {size} images"
    table = output.with_suffix(".csv")
    write_points(points, table)
    draw_points(points, reading, output, title=title)
    print(f"{title}: {len(points)} steps, rates {points[0].rate:.2g} to {points[-1].rate:.2g}")
    print(f"Written: {output}, {table}")
    if reading.steepest is not None:
        print(f"The loss falls fastest at {rounded(reading.steepest):g} and is lowest at {rounded(reading.lowest):g}.")
    if reading.diverged is not None:
        print(f"It runs away at {rounded(reading.diverged):g}.")
    else:
        print(f"It never runs away; a higher --find-lr-max than {points[-1].rate:g} would show where it does.")
    if reading.rate is None:
        raise YoloError(f"the loss neither falls nor runs away, so there is no rate to suggest; look at {output}")
    print(f"Suggested ({reading.rule}):\n  --model.learning_rate {rounded(reading.rate):g}")
