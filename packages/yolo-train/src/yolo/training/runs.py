"""Where the files of a run go: ``runs/<name>/version_<n>/``."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from weakref import WeakKeyDictionary

from lightning.pytorch import Trainer

DEFAULT_NAME = "yolo"
_without_logger: WeakKeyDictionary[Trainer, Path] = WeakKeyDictionary()


def run_folder(trainer: Trainer) -> Path:
    """Return the absolute folder of the run: the logger's, else the next free one below the root."""
    for logger in trainer.loggers:
        if logger.log_dir:
            return Path(logger.log_dir).absolute()
        if logger.save_dir:
            return Path(logger.save_dir).absolute() / str(logger.name) / _version(logger.version)
    if trainer not in _without_logger:
        home = Path(trainer.default_root_dir).absolute() / "runs" / DEFAULT_NAME
        _without_logger[trainer] = next(f for n in count() if not (f := home / f"version_{n}").exists())
    return _without_logger[trainer]


def run_name(trainer: Trainer) -> str:
    """Return the logger's name, ``yolo`` without one."""
    name = trainer.loggers[0].name if trainer.loggers else None
    return str(name or DEFAULT_NAME)


def inside(trainer: Trainer, folder: str | Path) -> Path:
    """Resolve a folder of the configuration: a relative one lies in the run folder."""
    return run_folder(trainer) / folder


def _version(version: int | str | None) -> str:
    return version if isinstance(version, str) else f"version_{version or 0}"
