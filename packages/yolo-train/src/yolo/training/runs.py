"""Where the files of a run go: ``runs/<name>/version_<n>/``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from weakref import WeakKeyDictionary

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from yolo.core.errors import YoloError
from yolo.core.files import check_writable
from yolo.training.config import PlotConfig
from yolo.training.logger_config import version_of

DEFAULT_NAME = "yolo"
_OF_THE_START = (
    "events.out.tfevents.*",
    "config.yaml",
    "hparams.yaml",
    "run.lock.json",
    "metrics.csv",
    "train_batch.jpg",
)
_settled: WeakKeyDictionary[Trainer, Path] = WeakKeyDictionary()


def run_folder(trainer: Trainer) -> Path:
    """Return the absolute folder of the run: that of a logger that writes files, else the next free one."""
    if trainer in _settled:
        return _settled[trainer]
    logged = _folder_of_loggers(trainer)
    if logged is not None:
        return logged
    name = run_name(trainer)  # some loggers have only numbers
    home = Path(trainer.default_root_dir).absolute() / "runs" / (DEFAULT_NAME if name.isdigit() else name)
    return _settled.setdefault(trainer, next(f for n in count() if not (f := home / f"version_{n}").exists()))


def go_on_in_folder(trainer: Trainer, checkpoint: Path) -> None:
    """Let a resumed run go on in the folder of its checkpoint, where no logger says otherwise.

    Args:
        trainer: of the run.
        checkpoint: ``.../version_<n>/checkpoints/x.ckpt``; one that lies elsewhere changes nothing.
    """
    if version_of(checkpoint) is not None and _folder_of_loggers(trainer) is None:
        _settled[trainer] = checkpoint.absolute().parents[1]


def settle_folder(trainer: Trainer) -> None:
    """Let all processes have the folder of the first: one that looks later for a free one finds another."""
    if trainer.world_size > 1:
        _settled[trainer] = Path(trainer.strategy.broadcast(str(run_folder(trainer))))


def run_name(trainer: Trainer) -> str:
    """Return the first logger's name, ``yolo`` without one."""
    name = trainer.loggers[0].name if trainer.loggers else None
    return str(name) if name and name != "lightning_logs" else DEFAULT_NAME


def inside(trainer: Trainer, folder: str | Path) -> Path:
    """Resolve a folder of the configuration: a relative one lies in the run folder."""
    return run_folder(trainer) / folder


def _folder_of_loggers(trainer: Trainer) -> Path | None:
    """The folder of the first logger that writes files; others know a place and a name only once they have begun."""
    return next((Path(logger.log_dir).absolute() for logger in trainer.loggers if logger.log_dir), None)


def writes_files(trainer: Trainer) -> bool:
    """Whether this process writes files of the run: the first one does, and none in a ``fast_dev_run``."""
    return bool(trainer.is_global_zero) and not getattr(trainer, "fast_dev_run", False)


@contextmanager
def no_empty_folder(trainer: Trainer) -> Iterator[None]:
    """Take the new folder of a run away again when the run ends by an error before its first step.

    Only files that the start of a run writes are removed, and a folder only when nothing else is in it.
    """
    folder = coming_folder(trainer)
    missing = [] if folder is None else [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        if folder in missing and trainer.is_global_zero and trainer.global_step == 0:
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger) and "_experiment" in vars(logger):
                    logger.experiment.close()
            files = [file for pattern in _OF_THE_START for file in folder.glob(pattern)] if folder else []
            for file in files:
                file.unlink(missing_ok=True)
            for path in missing:
                with suppress(OSError):  # not empty, or never made
                    path.rmdir()
        raise


def check_place(trainer: Trainer, plots: PlotConfig) -> None:
    """See that the files of a run can be written where they are to go; nothing is left there.

    Args:
        trainer: of the run.
        plots: where its plots go.

    Raises:
        YoloError: they cannot.
    """
    own = "trainer.logger.init_args.save_dir, or trainer.default_root_dir without a logger"
    folder = coming_folder(trainer) or Path(trainer.default_root_dir).absolute()
    _check_writable(folder, own)
    if plots.save_metrics_plots and plots.metrics_plots_dir is not None:
        _check_writable(folder / plots.metrics_plots_dir, "model.metrics_plots_dir")
    for saver in trainer.checkpoint_callbacks:
        home = getattr(saver, "folder", None) or getattr(saver, "dirpath", None)
        if home is not None and Path(home).is_absolute():
            _check_writable(Path(home), "dirpath of the checkpoint callback")


def _check_writable(folder: Path, options: str) -> None:
    try:
        check_writable(folder)
    except OSError as error:
        raise YoloError(
            f"the run would be written to {folder}, but {error.filename} cannot be written ({error.strerror}): choose "
            f"another place with {options}"
        ) from error


def coming_folder(trainer: Trainer) -> Path | None:
    """The folder a run will have; None where to ask a logger for it would already make it."""
    known = all(isinstance(logger, (TensorBoardLogger, CSVLogger)) for logger in trainer.loggers)
    return run_folder(trainer) if known and not getattr(trainer, "fast_dev_run", False) else None
