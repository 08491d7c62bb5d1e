"""Values that Lightning takes and stumbles over later, or refuses without naming the key."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from yolo.core.errors import UsageError
from yolo.data.config_files import read_config

_LEAST = {
    "max_epochs": -1, "max_steps": -1, "accumulate_grad_batches": 1, "gradient_clip_val": 0,
    "check_val_every_n_epoch": 1, "log_every_n_steps": 0, "num_sanity_val_steps": -1, "num_nodes": 1,
}  # fmt: skip
_SHARES = {"limit_train_batches": 1, "limit_val_batches": 0, "val_check_interval": 1}  # with the least whole number
_TIME = r"\d+:\d\d?:\d\d?:\d\d?"


def check_trainer(options: Mapping[str, Any]) -> None:
    """Look at the numbers of the ``trainer`` section.

    Args:
        options: as they were parsed.

    Raises:
        UsageError: one of them cannot be trained with.
    """
    for key, least in _LEAST.items():
        value = options.get(key)
        if value is not None and value < least:
            raise UsageError(f"trainer.{key} is {value}; it has to be {least} or more")
    for key, least in _SHARES.items():
        value = options.get(key)
        if isinstance(value, int) and value < least:
            raise UsageError(f"trainer.{key} is {value}; it has to be {least} or more batches, or a share of them")
        if isinstance(value, float) and not (0 < value <= 1 or value == least == 0):
            raise UsageError(f"trainer.{key} is {value}; a share of the batches is above 0 and at most 1.0")
    time = options.get("max_time")
    if isinstance(time, str) and not re.fullmatch(_TIME, time):
        raise UsageError(f"trainer.max_time is {time}; write days:hours:minutes:seconds, as in 00:08:00:00")
    if options.get("use_distributed_sampler"):
        raise UsageError("trainer.use_distributed_sampler is true; leave it out: our samplers share the images already")


def check_seed(seed: bool | int) -> None:
    """Look at ``seed_everything``.

    Args:
        seed: true for one that is drawn, false for none.

    Raises:
        UsageError: NumPy does not take it.
    """
    if not 0 <= seed < 1 << 32:
        raise UsageError(f"seed_everything is {seed}; it has to be from 0 to {(1 << 32) - 1}")


def check_sections(args: Sequence[str], names: Collection[str]) -> None:
    """See that sections of configuration files hold keys and values.

    Args:
        args: the command line, with each file as ``--config=path``.
        names: of the sections.

    Raises:
        UsageError: one holds something else.
    """
    for file in (arg.removeprefix("--config=") for arg in args if arg.startswith("--config=")):
        for name, section in read_config(file).items():
            if name in names and not isinstance(section, Mapping | None):
                raise UsageError(f"{file}: `{name}:` must hold keys and values")


@contextmanager
def naming_the_option(options: Mapping[str, Any]) -> Iterator[None]:
    """Turn what Lightning's Trainer says of its arguments into one line that names the option.

    Raises:
        UsageError: in place of its error.
    """
    try:
        yield
    except (MisconfigurationException, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        said = re.split(r"(?<=[.!]) ", text)[0]
        given = {key: value for key, value in options.items() if isinstance(value, (bool, int, float, str))}
        found = {key: re.search(rf"\b{key}\b", text) for key in given}
        named = sorted((match.start(), key) for key, match in found.items() if match)
        named += [(0, key) for key, value in given.items() if isinstance(value, str) and value and value in text]
        where = f"trainer.{named[0][1]} is {given[named[0][1]]}" if named else "trainer"
        raise UsageError(f"{where}: {said}") from error


def check_validation(trainer: Trainer, batches: Callable[[], int]) -> None:
    """See that validations within an epoch are due before it ends.

    Args:
        trainer: of the run.
        batches: counts those of an epoch, in one process; asked only if it matters, since it reads the labels.

    Raises:
        UsageError: an epoch has fewer batches than ``trainer.val_check_interval``.
    """
    interval = trainer.val_check_interval
    within = isinstance(interval, int) and not isinstance(interval, bool) and trainer.check_val_every_n_epoch
    if within and interval > 1 and trainer.limit_val_batches != 0 and interval > (count := batches()):
        raise UsageError(
            f"trainer.val_check_interval is {interval}, but an epoch has {count} batches: give at most that, or "
            "set trainer.check_val_every_n_epoch to null, which counts batches across epochs"
        )
