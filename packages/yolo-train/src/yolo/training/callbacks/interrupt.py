"""Stopping a training from outside: by a signal or a time limit, with everything saved."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from yolo.core.errors import UsageError
from yolo.training.callbacks.checkpoint import YOLOCheckpoint
from yolo.training.callbacks.last_resort import last_resort
from yolo.training.runs import run_folder
from yolo.training.wording import short_path

logger = logging.getLogger(__name__)

_AGAIN = 1.0  # seconds: a signal to a process and to its group arrives twice
_TIME_IS_UP = 1 << 10  # no number of a signal


class Stopped(SystemExit):
    """The training was asked to stop; uncaught, the process ends with the exit code.

    Args:
        code: 128 + number of the signal, 0 for a time limit.
        reason: what asked for it.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.code: int = code
        self.reason = reason

    def __str__(self) -> str:
        return f"stopped by {self.reason}"


class InterruptCallback(Callback):
    """Save ``last.ckpt`` and stop when a signal asks for it, or when ``trainer.max_time`` is over.

    The stop happens when the optimiser step under way is complete; in a validation, after the batch under way, and the
    validation is done again by the run that goes on. Several processes agree on the step. A second signal, a second or
    more later, ends the process at once. Under SLURM Lightning would answer ``SIGUSR1`` by a file of its own and a
    requeue; here the signal means the same everywhere, and the script of the job requeues it.

    Args:
        enabled: false leaves signals and time limit to Python and Lightning, which save nothing.
        signals: names of the signals.
        every_n_train_steps: also write ``last.ckpt`` after every so many optimiser steps; 0 writes it after epochs.
    """

    def __init__(
        self,
        enabled: bool = True,
        signals: Sequence[str] = ("SIGINT", "SIGTERM", "SIGUSR1"),
        every_n_train_steps: int = 0,
    ) -> None:
        never = ("SIGKILL", "SIGSTOP")  # cannot be answered
        known = [*signal.Signals.__members__, "SIGUSR1"]  # which Windows does not have
        unknown = [name for name in signals if name not in known or name in never]
        if unknown:
            raise UsageError(f"interrupt.signals names {unknown[0]}, which is no signal: SIGTERM is one, and SIGUSR1")
        if every_n_train_steps < 0:
            raise UsageError(f"interrupt.every_n_train_steps is {every_n_train_steps}; it cannot be negative")
        self.enabled = enabled
        self.signals = tuple(signals)
        self.every_n_train_steps = every_n_train_steps
        self._asked = 0
        self._asked_at = 0.0
        self._answered_at = 0.0
        self._training = False
        self._process = os.getpid()
        self._shared_batches = 0

    @contextmanager
    def listening(self, trainer: Trainer) -> Iterator[None]:
        """Answer signals within the block; before the first step and after the last one they end it at once."""
        before = self._listen()
        _no_requeue_of_its_own(trainer, before)
        try:
            with last_resort(before, lambda: self._answered_at, lambda: self._training, again=_AGAIN):
                yield
        finally:
            self._training = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask for a stop from another thread, as a signal would."""
        self._asked, self._asked_at = number, time.monotonic()

    def _listen(self) -> dict[int, Any]:
        """Put our handlers in place; returns those that were there. Only the main thread can."""
        if not self.enabled or threading.current_thread() is not threading.main_thread():
            return {}
        self._process = os.getpid()
        before = {}
        for name in self.signals:
            number = signal.Signals.__members__.get(name)
            if number is not None:
                before[int(number)] = signal.signal(number, self._answer)
        return before

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker that was forked a moment ago
        self._answered_at = time.monotonic()
        name = signal.Signals(number).name
        if not self._training:
            raise Stopped(128 + number, name)
        now = time.monotonic()
        if self._asked and now - self._asked_at >= _AGAIN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not self._asked:
            self._asked, self._asked_at = number, now
            # Not print(): the signal may have come in the middle of one.
            with suppress(OSError):
                os.write(2, f"\n{name}: stopping when this step is saved; once more to stop at once\n".encode())

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come last: a stop is for when all others are through with the step."""
        others = [callback for callback in getattr(trainer, "callbacks", []) if callback is not self]
        trainer.callbacks = [*others, self]  # type: ignore[attr-defined]  # set in its constructor

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let ``trainer.max_time`` be the time of this process: the same command can be given again."""
        if self.enabled:
            for key in [key for key in checkpoint.get("callbacks", {}) if key.startswith("Timer")]:
                checkpoint["callbacks"][key] = {"time_elapsed": {}}

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handlers, which are set just before."""
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to save."""
        self._listen()
        self._training = self.enabled

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between two epochs."""
        self._stop_if_asked(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, if it is time to and the optimiser step is complete."""
        if not self.enabled:
            return
        if trainer.should_stop and self._by_timer(trainer):
            trainer.should_stop = False  # Lightning would end the epoch here, and count it as a whole one
            self._asked = self._asked or _TIME_IS_UP
        if trainer.fit_loop._should_accumulate():
            return
        if self.every_n_train_steps and trainer.global_step % self.every_n_train_steps == 0:
            _save(trainer)
        self._stop_if_asked(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the batches that all processes have: they can agree in these only."""
        counts = trainer.num_val_batches
        batches = int(sum(counts) if isinstance(counts, list) else counts)
        if trainer.world_size > 1 and self.enabled:
            batches = int(trainer.strategy.reduce(_number(trainer, batches), reduce_op="min"))
        self._shared_batches = batches

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Stop in the middle of a validation, which is done again later."""
        fitting = not trainer.sanity_checking and self._training
        if fitting and batch_idx < self._shared_batches and not trainer.fit_loop._should_accumulate():
            self._stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """There is nothing to save any more."""
        self._training = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save, and say how to go on; the training weights are in their place by now."""
        if not isinstance(exception, Stopped):
            return
        if not self._training:
            text = "before the first step" if trainer.global_step == 0 else "after the training"
            if trainer.is_global_zero:
                logger.warning("Stopped by %s %s; there is nothing to save.", exception.reason, text)
            return
        path = _save(trainer)
        if trainer.is_global_zero:
            logger.warning("%s", _farewell(trainer, exception.reason, path))
        self._training = False

    def _by_timer(self, trainer: Trainer) -> bool:
        timers = [callback for callback in getattr(trainer, "callbacks", []) if isinstance(callback, Timer)]
        return any(timer.time_remaining() is not None for timer in timers) and trainer.fit_loop._can_stop_early

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if not self.enabled:
            return
        asked = self._asked
        if trainer.world_size > 1:
            asked = int(trainer.strategy.reduce(_number(trainer, asked), reduce_op="max"))
        if asked == _TIME_IS_UP:
            raise Stopped(0, "trainer.max_time")
        if asked:
            raise Stopped(0 if _is_child(trainer) else 128 + asked, signal.Signals(asked).name)


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Let the interrupt callback of a trainer, if it has one, answer signals from here on."""
    found = [callback for callback in getattr(trainer, "callbacks", []) if isinstance(callback, InterruptCallback)]
    if not found:
        yield
        return
    with found[0].listening(trainer):
        yield


def _no_requeue_of_its_own(trainer: Trainer, answered: Collection[int]) -> None:
    """Let Lightning not say, under SLURM, that it saves and requeues at a signal which it is not to answer."""
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment) and (environment.requeue_signal or signal.SIGUSR1) in answered:
        environment.auto_requeue = False


def _number(trainer: Trainer, value: int) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.int64, device=trainer.strategy.root_device)


def _is_child(trainer: Trainer) -> bool:
    """Whether Lightning started this process; it kills the first one when another ends with a code."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return trainer.global_rank > 0 and isinstance(environment, LightningEnvironment)


def _save(trainer: Trainer) -> Path | None:
    """Write ``last.ckpt``; None where the run keeps no checkpoints."""
    savers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, YOLOCheckpoint)]
    savers = [saver for saver in savers if saver.save_last] or savers
    return None if getattr(trainer, "fast_dev_run", False) or not savers else savers[0].save_last_now(trainer)


def _farewell(trainer: Trainer, reason: str, path: Path | None) -> str:
    where = f"Stopped by {reason} in epoch {trainer.current_epoch + 1} after {trainer.global_step} steps"
    if path is None:
        return f"{where}; nothing is saved, for this run keeps no checkpoints (trainer.enable_checkpointing)."
    config = run_folder(trainer) / "config.yaml"
    options = f"--config {quote(str(short_path(config)))} " if config.is_file() else "... "
    return f"{where}; saved. To go on: yolo fit {options}--ckpt_path {quote(str(short_path(path)))}"
