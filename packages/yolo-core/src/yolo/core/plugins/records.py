"""What a plugin yields: frozen records that name a thing, say where it lives, and describe it in one line.

A record is plain data. ``target`` is a string ``"package.module:attribute"`` that is imported only when somebody uses
the thing, so that ``yolo --help`` and ``yolo plugins`` stay fast and need no torch.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

Stage = Literal["mix", "sample", "batch"]


@dataclass(frozen=True)
class PluginSpec:
    """What all records have in common.

    Attributes:
        name: what users type, in a config or on the command line; letters, digits, ``-`` and ``_``.
        target: where the thing is, ``"package.module:attribute"``.
        summary: one line for listings and ``--help``.

    Raises:
        ValueError: a name or target of another form, or a summary that is empty or has several lines.
    """

    name: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        what = type(self).__name__
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"{what}: name {self.name!r} may hold letters, digits, '-' and '_' only")
        _check_target(f"{what} '{self.name}': target", self.target)
        if not isinstance(self.summary, str) or not self.summary.strip() or "\n" in self.summary:
            raise ValueError(f"{what} '{self.name}': summary must be one line of text, not {self.summary!r}")


@dataclass(frozen=True)
class ImageLoaderSpec(PluginSpec):
    """A way to turn the bytes or path of an image into RGB pixels.

    ``target`` is a subclass of ``yolo.data.loaders.ImageLoader``. Used as ``image_loader: <name>``.
    """


@dataclass(frozen=True)
class DatasetFormatSpec(PluginSpec):
    """A layout of images and labels on disk.

    ``target`` is a callable ``(config: DataConfig, split: "train" | "val" | "test") -> LabelTable`` (yolo-data). Used
    as ``data.format: <name>``.
    """


@dataclass(frozen=True)
class AugmentationSpec(PluginSpec):
    """A random change of training images and their boxes.

    ``target`` is a class made from those in ``yolo.data.augment.base``. Used as
    ``augmentations: [{use: <name>, ...}]``.

    Attributes:
        stage: ``mix`` combines several samples, ``sample`` changes one, ``batch`` changes a collated batch.
    """

    _: KW_ONLY
    stage: Stage = "sample"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage not in ("mix", "sample", "batch"):
            raise ValueError(f"AugmentationSpec '{self.name}': stage is mix, sample or batch, not {self.stage!r}")


@dataclass(frozen=True)
class LRSchedulerSpec(PluginSpec):
    """A learning-rate schedule.

    ``target`` is a class that takes the ``ScheduleConfig`` of yolo-train and is called with the fraction of the
    training done, 0 to 1, for the factor of the base rate; with an attribute ``counts = "epochs"`` it is called with
    the epochs done. Used as ``lr_scheduler: <name>``.
    """


@dataclass(frozen=True)
class ExportBackendSpec(PluginSpec):
    """A file format that a detector can be exported to. Used as ``yolo export --format <name>``.

    Attributes:
        suffix: how the written file ends, such as ``".onnx"``; a folder ends with ``/``.
        requires: top-level modules that must be importable before ``target`` is imported.
        extra: the extra of the plugin's distribution that installs them: ``pip install 'distribution[extra]'``.
        runtime: ``"package.module:attribute"`` of what loads the written file again, or ``None``.
    """

    _: KW_ONLY
    suffix: str
    requires: tuple[str, ...] = ()
    extra: str | None = None
    runtime: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.suffix, str) or not self.suffix:
            raise ValueError(f"ExportBackendSpec '{self.name}': suffix must be text such as '.onnx'")
        if not isinstance(self.requires, tuple):
            raise ValueError(f"ExportBackendSpec '{self.name}': requires must be a tuple of module names")
        if self.runtime is not None:
            _check_target(f"ExportBackendSpec '{self.name}': runtime", self.runtime)


@dataclass(frozen=True)
class CommandSpec(PluginSpec):
    """A subcommand of ``yolo``.

    Attributes:
        passthrough: ``False``: ``target`` is a :class:`click.Command`. ``True``: ``target`` is a callable
            ``(args: list[str]) -> int | None`` that gets everything after the command name untouched, ``--help``
            included, and returns the exit code (``None`` means 0).
    """

    _: KW_ONLY
    passthrough: bool = False


@dataclass(frozen=True)
class ConfigSpec(PluginSpec):
    """A configuration that comes with a package.

    ``target`` is a callable ``() -> Path`` of the YAML file. Used as ``--config <name>``.
    """


def _check_target(what: str, target: object) -> None:
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        raise ValueError(f"{what} must be 'package.module:attribute', not {target!r}")
