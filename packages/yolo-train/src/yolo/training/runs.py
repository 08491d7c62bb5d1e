"""Where the files of a run go: ``runs/<name>/version_<n>/``."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """Return the folder of the run: the logger's own when it has one, else ``<default root>/<name>/version_<n>``."""
    for logger in trainer.loggers:
        folder = getattr(logger, "log_dir", None)
        if folder:
            return Path(folder)
    root = Path(trainer.loggers[0].save_dir or trainer.default_root_dir) if trainer.loggers else Path(trainer.default_root_dir) / "runs"
    version = trainer.loggers[0].version if trainer.loggers else 0
    return root / run_name(trainer) / (version if isinstance(version, str) else f"version_{version}")


def run_name(trainer: Trainer) -> str:
    """Return the logger's name, ``yolo`` without one."""
    name = trainer.loggers[0].name if trainer.loggers else None
    return str(name or "yolo")


def inside(trainer: Trainer, folder: str | Path) -> Path:
    """Resolve a folder of the configuration: a relative one lies in the run folder."""
    return run_folder(trainer) / folder
