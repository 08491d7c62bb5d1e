"""``yolo fit --dry-run``: everything that a training does until it has made one step, and nothing of it stays."""

from __future__ import annotations

import logging
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from yolo.core.errors import UsageError
from yolo.data.cache.loader import CachedImageLoader
from yolo.data.cache.resources import check_resources, estimate_bytes
from yolo.data.cache.settings import CacheSettings, cache_folder, check_encryption
from yolo.data.cache.use import open_images
from yolo.data.config import DataConfig
from yolo.data.labels import LabelTable
from yolo.data.loaders import open_loader
from yolo.data.types import Batch
from yolo.training.atomic_io import AtomicCheckpointIO
from yolo.training.callback_list import NAMED_CALLBACKS
from yolo.training.callbacks import YOLOCheckpoint
from yolo.training.callbacks.interrupt import Stopped, interruptible
from yolo.training.memory import memory_hints
from yolo.training.module import YOLOModule
from yolo.training.overview import WIDTH, overview
from yolo.training.processes import ending_together, one_voice
from yolo.training.run_lock import RunLock
from yolo.training.runs import check_place, coming_folder
from yolo.training.schedulers.warmup import WarmupSchedule
from yolo.training.trainer_cli import YOLOCLI, answer_old_options, make_cli
from yolo.training.trainer_options import check_validation
from yolo.training.wording import byte_size, duration, number_of, short_path

OPTION = "--dry-run"
_QUIET = ("progress", "summary", "dashboard", "record")  # their files and lines are about a training
_COLUMN = 11
_LIGHTNING = ("lightning.pytorch", "lightning.fabric")


class Rehearsal(Callback):
    """Stops after one optimiser step and one validation batch, and remembers how they went."""

    def __init__(self) -> None:
        self.text = ""
        self.length = ""
        self.step = ""
        self.validation = ""
        self._clock = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe the training while everything is as it would be; then let every batch make a step."""
        assert isinstance(pl_module, YOLOModule)
        self.text = overview(trainer, pl_module).rpartition("\nRun ")[0]
        schedules = [entry.scheduler for entry in trainer.lr_scheduler_configs]
        ends = [one.course.timeline.end for one in schedules if isinstance(one, WarmupSchedule)]
        self.length = _length(ends[0], trainer.global_step) if ends else ""
        trainer.accumulate_grad_batches = 1
        self._clock = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Stop, once the loss is known."""
        trainer.should_stop = True
        metrics = trainer.callback_metrics
        names = [name for name in ("loss", "box", "cls", "dfl") if f"train/{name}_step" in metrics]
        terms = ", ".join(f"{name} {float(metrics[f'train/{name}_step']):.3f}" for name in names)
        self.step = f"{number_of(len(batch.images), 'image')}, {terms}"
        self.step += f"; {duration(time.monotonic() - self._clock)} with loading and set-up"
        if trainer.strategy.root_device.type == "cuda":
            self.step += f", {byte_size(torch.cuda.max_memory_allocated())} of the GPU at most"

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._clock = time.monotonic()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        """Note how it went."""
        spent = duration(time.monotonic() - self._clock)
        self.validation = f"{number_of(len(batch.images), 'image')}; {spent} with loading"


class RehearsalCLI(YOLOCLI):
    """Build a training that leaves everything it writes in a folder of its own.

    Args:
        place: that folder.
        *args: of :class:`YOLOCLI`.
        **kwargs: of :class:`YOLOCLI`.
    """

    def __init__(self, place: str, *args: Any, **kwargs: Any) -> None:
        self.place = place
        self.rehearsal = Rehearsal()
        super().__init__(*args, **kwargs)

    def before_instantiate_classes(self) -> None:
        """Replace what would write, look at the clock, or wait for long."""
        super().before_instantiate_classes()
        trainer = self.config.trainer
        trainer.default_root_dir = self.place
        trainer.fast_dev_run = False
        trainer.num_sanity_val_steps = 0
        trainer.check_val_every_n_epoch, trainer.val_check_interval = 1, 1.0
        trainer.min_epochs = trainer.min_steps = trainer.max_time = trainer.profiler = None
        if trainer.limit_val_batches != 0:
            trainer.limit_val_batches = 1
        for name in _QUIET:
            self.config[name].enabled = False
        self.config.model.save_metrics_plots = False
        self.config.data.cache_labels = False

    def instantiate_classes(self) -> None:
        """Build no cache."""
        super().instantiate_classes()
        self.datamodule.builds_cache = False

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        loggers = config["logger"] if isinstance(config["logger"], list) else [config["logger"]]
        kind = TensorBoardLogger if any(isinstance(one, TensorBoardLogger) for one in loggers) else CSVLogger
        config["logger"] = kind(self.place, name="rehearsal")
        plugins = config["plugins"] if isinstance(config["plugins"], list) else [config["plugins"]]
        kept = [plugin for plugin in plugins if plugin is not None and not isinstance(plugin, CheckpointIO)]
        config["plugins"] = [*kept, _NoFiles()]
        trainer = super()._instantiate_trainer(config, callbacks)
        for saver in trainer.checkpoint_callbacks:
            if isinstance(saver, YOLOCheckpoint):
                saver.folder = Path("checkpoints")
            elif isinstance(saver, ModelCheckpoint):
                saver.dirpath = self.place
        trainer.callbacks.append(self.rehearsal)  # type: ignore[attr-defined]  # set by Lightning's connector
        return trainer


class _NoFiles(AtomicCheckpointIO):
    """Reads checkpoints, and writes none: everything that goes into one has been put together by then."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write nothing."""

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove nothing."""


def run_dry(args: Sequence[str]) -> int:
    """Check a training: its options, data, network, one step and one validation batch; return the exit code.

    Args:
        args: everything behind ``yolo fit``, with or without ``--dry-run``.

    Raises:
        YoloError: what the training would raise, or that its folder cannot be written.
    """
    args = [arg for arg in args if arg != OPTION]
    if any(arg.startswith("--find-lr") for arg in args):
        raise UsageError(f"{OPTION} and --find-lr are two things instead of a training: give one of them")
    with one_voice(), _quiet_lightning():
        answer_old_options(args)
        real = make_cli(args)  # makes the loggers, which say here what they miss
        place = _place_of_run(real)
        try:
            with tempfile.TemporaryDirectory(prefix="yolo-dry-run-") as folder:
                cli = make_cli(args, partial(RehearsalCLI, folder))
                assert isinstance(cli, RehearsalCLI)
                _rehearse(cli)
                check_validation(real.trainer, cli.datamodule.batches_per_epoch)
        except Stopped as stopped:
            return stopped.code
        config = real.datamodule.config
        tables = {split: cli.datamodule.labels(split) for split in _splits(real.trainer)}
        rows = {
            "Cache": _cache(config, tables),
            "Steps": cli.rehearsal.length,
            "Callbacks": _callbacks(real),
            "Loggers": ", ".join(type(logger).__name__ for logger in real.trainer.loggers) or "none",
            "Step": cli.rehearsal.step or "none: this run is complete; trainer.max_epochs can be raised",
            "Validation": cli.rehearsal.validation or "none",
            "Run": place,
        }
    if real.trainer.is_global_zero:
        lines = [_row(name, text) for name, text in rows.items() if text]
        print("\n".join([*filter(None, [cli.rehearsal.text]), *lines]))
        print("All is well. Nothing was trained, and nothing was written.", flush=True)
    return 0


def _rehearse(cli: RehearsalCLI) -> None:
    path = cli.config.ckpt_path
    cli.model.resume_from = path
    with interruptible(cli.trainer), ending_together(cli.trainer), memory_hints(cli.trainer, cli.datamodule):
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=path, weights_only=True)


def _length(end: int, done: int) -> str:
    return f"{end:,} in all, {done:,} of them done" if done else f"{end:,} in all"


def _row(name: str, text: str) -> str:
    shown = textwrap.wrap(text, WIDTH - _COLUMN, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"{'' if at else name:<{_COLUMN}}{line}" for at, line in enumerate(shown))


def _splits(trainer: Trainer) -> tuple[str, ...]:
    return ("train", "val") if trainer.limit_val_batches != 0 else ("train",)


def _place_of_run(real: YOLOCLI) -> str:
    """Say where the run would go, and raise YoloError when nothing can be written there."""
    trainer = real.trainer
    check_place(trainer, real.model.config)
    folder = coming_folder(trainer)
    if folder is None:
        return f"as {type(trainer.loggers[0]).__name__} decides"
    goes_on = f", goes on from {Path(real.config.ckpt_path).name}" if real.config.ckpt_path else ""
    return f"{short_path(folder)}{goes_on}"


def _cache(config: DataConfig, tables: Mapping[str, LabelTable]) -> str:
    """Say what would become of the image cache.

    Raises:
        YoloError: it belongs to other settings, or there is no room for it.
    """
    if config.cache_images == "none":
        return ""
    folder = cache_folder(config)
    shown = short_path(folder)
    if isinstance(open_images(config, tables), CachedImageLoader):
        return f"{shown} is there and fits"
    loader = open_loader(config.image_loader, encryption_key=config.encryption_key)
    check_encryption(config, loader)
    needed = sum(estimate_bytes(list(table.paths), CacheSettings.of(config), loader) for table in tables.values())
    check_resources(folder, needed, mode=config.cache_images, max_memory_gb=config.cache_max_memory_gb)
    return f"{shown} would be built first, about {byte_size(needed)}; here the files were read"


def _callbacks(real: YOLOCLI) -> str:
    """Name the callbacks: those of every run by their option, without those that are switched off."""
    names = {kind: name for name, kind in NAMED_CALLBACKS.items()}
    used = [callback for callback in getattr(real.trainer, "callbacks", []) if getattr(callback, "enabled", True)]
    shown = [names.get(type(callback), type(callback).__name__) for callback in used if type(callback) is not RunLock]
    return ", ".join(name for name in dict.fromkeys(shown) if name != "ConfigCallback")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Let Lightning keep what is no warning to itself: the trainer is made twice, and stops early on purpose."""
    logs = [logging.getLogger(name) for name in _LIGHTNING]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
