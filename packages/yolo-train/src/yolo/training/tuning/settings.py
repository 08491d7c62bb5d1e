"""The options of ``yolo fit``, read to measure something and not to train."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from yolo.cli.output import note
from yolo.core.errors import UsageError
from yolo.core.files import write_atomically
from yolo.data.cache.use import open_images
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader
from yolo.training.module import YOLOModule
from yolo.training.schedule_preview import SettingsCLI
from yolo.training.trainer_cli import YOLOCLI
from yolo.training.tuning.steps import StepJob, without_secrets

_OF_A_STEP = (
    "accelerator",
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "benchmark",
    "deterministic",
    "detect_anomaly",
)


class TuneCLI(SettingsCLI):
    """Parse the options of a training for a command that measures."""

    def before_instantiate_classes(self) -> None:
        """Settle what stands in two places."""
        refuse_resume(self.config)
        super().before_instantiate_classes()


def refuse_resume(config: Namespace) -> None:
    """Raise UsageError where a run is to be resumed: nothing here goes on with a training."""
    if config.ckpt_path is not None:
        raise UsageError("--ckpt_path: nothing is resumed here, leave it out (--model.weight_path starts from weights)")


@dataclass(frozen=True)
class Pictures:
    """The training split, opened so that nothing is written: no label cache, no image cache.

    Attributes:
        config: the ``data:`` section.
        table: labels.
        images: what reads the pictures: an image cache that is there and fits, else the files.
    """

    config: DataConfig
    table: LabelTable
    images: ImageLoader

    @classmethod
    def open(cls, config: DataConfig) -> Pictures:
        """Read the labels.

        Raises:
            YoloError: the data cannot be used.
        """
        config = replace(config, cache_labels=False)
        table = load_labels(config, "train")
        images = open_images(config, {"train": table})
        if config.cache_images != "none" and not hasattr(images, "store"):
            note("There is no image cache yet that fits: the files are read instead.")
        return cls(config, table, images)


def step_job(cli: YOLOCLI, **more: Any) -> StepJob:
    """Return the job of measuring the training steps of a configuration.

    Args:
        cli: what was parsed.
        **more: further fields of :class:`StepJob`.
    """
    assert isinstance(cli.model, YOLOModule)
    model = {**vars(cli.model.config), "weight_path": None, "num_classes": None}
    trainer = {key: cli.config.trainer[key] for key in _OF_A_STEP}
    given = {"data": without_secrets(cli.datamodule.config), **more}
    return StepJob(
        model=model,
        trainer={**trainer, "devices": _one(cli.config.trainer.devices)},
        ema=_arguments(cli.config.ema),
        guard=_arguments(cli.config.guard),
        **given,
    )


def write_json(path: str, value: object) -> None:
    """Write figures into a file, and say so."""
    write_atomically(Path(path), (json.dumps(value, indent=2) + "\n").encode())
    note(f"Written: {path}")


def positive(name: str, value: float) -> None:
    """Raise UsageError for a number of an option that is not above 0."""
    if not value > 0:
        raise UsageError(f"--{name} {value:g}: it has to be above 0")


def busy_machine() -> str | None:
    """Say so when other programs run, whose share of the processors makes figures rough."""
    try:
        load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return None
    if load < max(0.25 * cores, 0.5):
        return None
    return f"Other programs run here (load {load:.1f} on {cores} cores): the figures are rough."


def _one(devices: Any) -> Any:
    return devices[:1] if isinstance(devices, list) else 1


def _arguments(section: Namespace) -> dict[str, Any]:
    return dict(vars(section))
