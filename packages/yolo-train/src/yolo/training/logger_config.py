"""Which loggers a run has, and in which folder those that write files do so."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from yolo.core.files import write_atomically

_IN_THE_RUN_FOLDER = (TensorBoardLogger, CSVLogger)  # <save_dir>/<name>/version_<n>


def default_logger() -> dict[str, Any]:
    """Return the logger of a run whose configuration names none."""
    return {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": "runs", "name": "yolo"},
    }


def logger_entries(config: Namespace) -> list[Namespace]:
    """Return the loggers of a parsed configuration, of which there may be one, several or none."""
    given = config.trainer.logger
    entries = given if isinstance(given, list) else [given]
    return [entry for entry in entries if isinstance(entry, Namespace) and entry.get("init_args") is not None]


def version_of(checkpoint: Path) -> int | None:
    """Return ``n`` of ``<save_dir>/<name>/version_<n>/checkpoints/x.ckpt``, None for a file that lies elsewhere."""
    match = re.fullmatch(r"version_(\d+)", checkpoint.absolute().parent.parent.name)
    return int(match[1]) if match else None


def continue_loggers(config: Namespace, checkpoint: Path) -> None:
    """Let the loggers of a resumed run go on in its own folder.

    Args:
        config: changed in place; a logger of another name, or with a version of its own, stays as it is.
        checkpoint: to go on from.
    """
    version, folder = version_of(checkpoint), checkpoint.absolute().parents[1]
    kinds = tuple(kind.__name__ for kind in _IN_THE_RUN_FOLDER)
    for entry in logger_entries(config):
        mine = entry.class_path.endswith(kinds) and entry.init_args.get("version") is None
        if version is not None and mine and str(entry.init_args.get("name")) == folder.parent.name:
            entry.init_args.save_dir = str(folder.parents[1])
            entry.init_args.version = version


@rank_zero_only
def keep_metrics(loggers: Sequence[Logger], *, before: int) -> None:
    """Let TensorBoard's curves and the table of a CSVLogger go on in a resumed run, without what is done once more.

    Args:
        loggers: not yet in use. Lightning's CSVLogger would begin by deleting the table.
        before: the step the run goes on with; a run that was killed may have logged that one and more.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger) and logger._kwargs.get("purge_step") is None:
            logger._kwargs["purge_step"] = before
        path = Path(logger.log_dir or "") / "metrics.csv"
        if not isinstance(logger, CSVLogger) or not path.is_file():
            continue
        table = csv.DictReader(path.read_text().splitlines())
        rows = [row for row in table if int(row.get("step") or 0) < before]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it deletes the file
            writer = logger.experiment
        writer.metrics_keys = list(table.fieldnames or [])
        text = io.StringIO(newline="")
        kept = csv.DictWriter(text, writer.metrics_keys, extrasaction="ignore")
        kept.writeheader()
        kept.writerows(rows)
        write_atomically(path, text.getvalue().encode())


def agree_on_versions(loggers: Sequence[Logger]) -> None:
    """Let loggers look for a free folder now: one that looks when another has made it would take the next."""
    for logger in loggers:
        if isinstance(logger, _IN_THE_RUN_FOLDER):
            _ = logger.version
